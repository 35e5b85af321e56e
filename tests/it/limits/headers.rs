//! Headers and sentences about limits: `RateLimit`, `RateLimit-Policy`, `Retry-After`, and how long the last token
//! stays valid.

use super::{exchange, retry_after};
use crate::harness::{Gate, PASSWORD, Reply, json};

/// `RateLimit-Policy` and `RateLimit` of an answer.
fn fields(reply: &Reply) -> Option<(&str, &str)> {
    let (policy, state) = (reply.header("ratelimit-policy"), reply.header("ratelimit"));
    assert_eq!(policy.is_some(), state.is_some(), "{reply:?}");
    policy.zip(state)
}

#[test]
fn ratelimit_headers__on_every_answer_to_a_domain() {
    let gate = Gate::with(&[("LIMIT_FREE", "12/h"), ("LIMIT_PREMIUM", "600/m")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let answer = exchange(&gate, &domain).send();
    let token = answer.expect(200)["token"].as_str().expect("a token").to_owned();
    assert_eq!(fields(&answer), Some(("\"plan\";q=12;w=3600", "\"plan\";r=11;t=300")));

    let grant = "grant_type=client_credentials";
    let with_token = |method: &str, path: &str| gate.request(method, path).token(&token);
    let answers = [
        (200, gate.post("/token").form(grant).basic(&domain.id, &domain.secret)),
        (400, gate.post("/token").form("grant_type=password").basic(&domain.id, &domain.secret)),
        (200, gate.post("/introspect").form(format!("token={token}")).basic(&domain.id, &domain.secret)),
        (200, with_token("GET", "/v1/test")),
        (200, with_token("GET", "/v1/posts/my")),
        (404, with_token("GET", "/v1/posts/12345")),
        (400, with_token("POST", "/v1/posts").json(&json!({"content": ""}))),
        (403, with_token("GET", "/v1/me")),
        (200, with_token("GET", "/verify")),
        (403, with_token("GET", "/verify?scope=no:such")),
        (200, with_token("GET", "/v1/test")),
    ];
    for (used, (status, request)) in (2..).zip(answers) {
        let answer = request.send();
        assert_eq!(answer.status, status, "{}", answer.text());
        let expected = format!("\"plan\";r={};t={}", 12 - used, used * 300);
        assert_eq!(fields(&answer), Some(("\"plan\";q=12;w=3600", expected.as_str())), "{answer:?}");
    }
    let refused = with_token("GET", "/v1/test").send();
    refused.refused(429, "plan");
    assert_eq!(fields(&refused), Some(("\"plan\";q=12;w=3600", "\"plan\";r=0;t=3600")));
    let refused = with_token("GET", "/verify").send();
    refused.refused(403, "plan");
    assert_eq!(fields(&refused), Some(("\"plan\";q=12;w=3600", "\"plan\";r=0;t=3600")));

    let path = format!("/v1/domains/{}", domain.id);
    gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send().expect(200);
    let answer = exchange(&gate, &domain).send();
    let (policy, _) = fields(&answer).expect("the other plan has a limit too");
    assert_eq!((answer.status, policy), (429, "\"plan\";q=600;w=60"), "a change to a shorter period keeps the debt");
}

#[test]
fn ratelimit_headers__absent_without_a_plan_limit() {
    let gate = Gate::with(&[("LIMIT_FREE", "12/h")]);
    let (user, domain, token) = gate.tenant("alice");
    let stranger = gate.post("/token").json(&json!({"clientSecret": "wrong"}));
    let revoked = gate.post("/revoke").form(format!("token={token}")).basic(&domain.id, &domain.secret);
    for request in [
        gate.get("/v1/me").token(&user.token),
        gate.get("/v1/test").token(&user.token),
        gate.get("/v1/test").token("forged"),
        gate.get("/v1/test"),
        gate.get("/healthz"),
        stranger,
        revoked,
        gate.get("/v1/test").token(&token),
    ] {
        let answer = request.send();
        assert_eq!(fields(&answer), None, "{answer:?}");
    }
    let unlimited = Gate::start();
    let (_, domain, token) = unlimited.tenant("alice");
    assert_eq!(fields(&exchange(&unlimited, &domain).send()), None);
    assert_eq!(fields(&unlimited.get("/v1/test").token(&token).send()), None);
}

#[test]
fn retry_after__exactly_one_request_passes_then() {
    let gate = Gate::with(&[("LIMIT_FREE", "3/h")]);
    let user = gate.sign_up("alice");
    let domain = gate.register(&user, "shop.example.com");
    let statuses = || -> Vec<u16> { (0..4).map(|_| exchange(&gate, &domain).send().status).collect() };
    assert_eq!(statuses(), [200, 200, 200, 429]);
    let wait = retry_after(&exchange(&gate, &domain).send());
    assert!((1198..=1200).contains(&wait), "{wait}");
    gate.clock.advance(wait - 3);
    assert_eq!(statuses(), [429; 4]);
    gate.clock.advance(3);
    assert_eq!(statuses(), [200, 429, 429, 429]);
    gate.clock.advance(100 * 3600);
    assert_eq!(statuses(), [200, 200, 200, 429], "unused requests do not accumulate");
}

/// The remaining seconds of the last token in the two sentences of a refusal, if they mention one.
fn last_token(gate: &Gate, domain: &crate::harness::Domain, locale: &str) -> (Option<i64>, Option<i64>) {
    let reply = exchange(gate, domain).header("Accept-Language", locale).send();
    let body = reply.refused(429, "plan");
    let number = |member: &str, before: &str, after: &str| {
        let text = body[member].as_str().expect("a string");
        let (_, rest) = text.split_once(before)?;
        Some(rest.split_once(after).expect("the whole sentence").0.parse().expect("seconds"))
    };
    let english = |member| number(member, "your last token is good for another ", " s");
    let message = match locale {
        "ko" => number("message", "마지막으로 발급된 토큰을 ", "초 더 사용할 수 있습니다"),
        _ => english("message"),
    };
    (message, english("error_description"))
}

#[test]
fn last_token__remaining_life_in_the_refusal() {
    let gate = Gate::with(&[("LIMIT_FREE", "2/h"), ("TOKEN_TTL", "1m")]);
    let (user, domain, _) = gate.tenant("alice");
    gate.clock.advance(10);
    let token = gate.access_token(&domain);
    gate.clock.advance(17);
    for locale in ["en", "ko", "fr"] {
        let (message, description) = last_token(&gate, &domain, locale);
        assert!(message.is_some_and(|seconds| (40..=43).contains(&seconds)), "{locale}: {message:?}");
        assert!(description.is_some_and(|seconds| (40..=43).contains(&seconds)), "{locale}: {description:?}");
    }
    let form = gate.post("/token").form("grant_type=client_credentials").basic(&domain.id, &domain.secret).send();
    assert!(form.refused(429, "plan")["message"].as_str().is_some_and(|text| text.contains("your last token")));
    let call = gate.get("/v1/test").token(&token).send();
    assert_eq!(
        call.refused(429, "plan")["message"],
        "The domain's plan allows no more requests now: wait as long as Retry-After says"
    );

    // A refusal of another domain of the same owner does not mention that token.
    let other = gate.register(&user, "other.example.com");
    gate.access_token(&other);
    gate.access_token(&other);
    let (message, _) = last_token(&gate, &other, "en");
    assert!(message.is_some_and(|seconds| (55..=60).contains(&seconds)), "{message:?}");

    gate.clock.advance(44);
    assert_eq!(last_token(&gate, &domain, "en"), (None, None), "dead");
}

#[test]
fn last_token__not_mentioned_after_revocation() {
    let gate = Gate::with(&[("LIMIT_FREE", "1/h"), ("TOKEN_TTL", "1h")]);
    let (user, domain, token) = gate.tenant("alice");
    assert!(last_token(&gate, &domain, "en").0.is_some());
    gate.post("/revoke").form(format!("token={token}")).basic(&domain.id, &domain.secret).send().expect(200);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    assert_eq!(last_token(&gate, &domain, "en"), (None, None), "revoked");

    let other = gate.register(&user, "other.example.com");
    gate.access_token(&other);
    assert!(last_token(&gate, &other, "en").0.is_some());
    let body = json!({"oldPassword": PASSWORD, "newPassword": "staple battery horse correct"});
    gate.put("/v1/me/password").token(&user.token).json(&body).send().expect(200);
    assert_eq!(last_token(&gate, &other, "en"), (None, None), "ended with the password");
}

#[test]
fn redundant_tokens__are_counted() {
    let gate = Gate::with(&[("TOKEN_TTL", "1m")]);
    let redundant = || {
        let text = gate.app.metrics_text();
        let line = text.lines().find(|line| line.starts_with("gatebird_tokens_redundant_total "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("the counter")
    };
    let (_, domain, _) = gate.tenant("alice");
    for (seconds, total) in [(0, 1), (10, 2), (40, 2), (20, 3), (61, 3)] {
        gate.clock.advance(seconds);
        gate.access_token(&domain);
        assert_eq!(redundant(), total, "after {seconds} s");
    }
}
