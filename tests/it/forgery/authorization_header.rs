//! Where a token is read: from the one `Authorization` header, as `Bearer` or bare, and from nowhere else.

use super::Target;
use crate::harness::json;

#[test]
fn authorization_header__bearer_in_any_case_or_bare() {
    let target = Target::new();
    for prefix in ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   ", ""] {
        let value = format!("{prefix}{}", target.token);
        target.gate.get("/v1/test").header("Authorization", &value).send().expect(200);
    }
}

#[test]
fn authorization_header__other_schemes() {
    let target = Target::new();
    let token = &target.token;
    for value in [
        format!("Basic {token}"),
        format!("Digest {token}"),
        format!("Token {token}"),
        format!("DPoP {token}"),
        format!("Negotiate {token}"),
        format!("JWT {token}"),
        format!("MAC {token}"),
        format!("X {token}"),
        format!("Bearer: {token}"),
        format!("Bearer:{token}"),
        format!("Bearer,{token}"),
        format!("Bearer={token}"),
        format!("Bearer\t{token}"),
        format!("Bearer{token}"),
        format!("Bearer Bearer {token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},Bearer {token}"),
        format!("Bearer {token}, Basic YTpi"),
        format!("Bearer \"{token}\""),
        format!("Bearer token={token}"),
        format!("{token} Bearer"),
        format!("Authorization: Bearer {token}"),
        "Bearer".to_owned(),
        "Bearer null".to_owned(),
        "Bearer undefined".to_owned(),
        "null".to_owned(),
    ] {
        let reply = target.gate.get("/v1/test").header("Authorization", &value).send();
        assert_eq!(reply.status, 401, "{value}");
        reply.refused(401, "invalid");
    }
    target.gate.get("/v1/test").send().refused(401, "missing");
    target.gate.get("/v1/test").header("Authorization", "").send().refused(401, "missing");
}

/// A proxy may read the first header and the server the last, so two are refused.
#[test]
fn authorization_header__repeated() {
    let target = Target::new();
    let good = format!("Bearer {}", target.token);
    let user = format!("Bearer {}", target.user.token);
    for (first, second) in [
        (good.as_str(), "Bearer invalid"),
        ("Bearer invalid", &good),
        (&good, &good),
        (&good, &user),
        (&user, &good),
        (&good, "Basic YTpi"),
        ("", &good),
        (&good, ""),
    ] {
        let request = target.gate.get("/v1/test").header("Authorization", first).header("authorization", second);
        request.send().refused(401, "invalid");
    }
}

#[test]
fn token__outside_the_authorization_header_is_ignored() {
    let target = Target::new();
    let (gate, token) = (&target.gate, &target.token);
    gate.get(&format!("/v1/test?access_token={token}")).send().refused(401, "missing");
    gate.get(&format!("/v1/test?token={token}&authorization=Bearer%20{token}&jwt={token}"))
        .send()
        .refused(401, "missing");
    gate.get(&format!("/v1/test#access_token={token}")).send().refused(401, "missing");
    for name in [
        "Cookie",
        "Proxy-Authorization",
        "X-Authorization",
        "X-Access-Token",
        "X-Auth-Token",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "Token",
        "DPoP",
        "X-Gatebird-User",
        "Sec-WebSocket-Protocol",
    ] {
        for value in
            [token.clone(), format!("Bearer {token}"), format!("token={token}; access_token={token}; jwt={token}")]
        {
            gate.get("/v1/test").header(name, &value).send().refused(401, "missing");
        }
    }
    let body = json!({"content": "hi", "access_token": token});
    gate.post("/v1/posts").json(&body).send().refused(401, "missing");
    gate.post("/v1/posts").form(format!("access_token={token}&content=hi")).send().refused(401, "missing");
    let form = gate.get("/v1/test").form(format!("access_token={token}")).send();
    form.refused(401, "missing");
    // A proxy would strip such a header; the server ignores it.
    let named = gate.get("/v1/test").token(token).header("Connection", "close, Authorization").send();
    named.expect(200);
}
