//! Token requests that are malformed, of the wrong type, too large or unusual.

use super::{GRANT, form, invalid_client};
use crate::harness::{Domain, Gate, Reply, check_each, json, parts};
use crate::http::raw;

/// RFC 6749 §5.2: visible ASCII without quotes and backslash, so that it can stand in a header.
#[track_caller]
fn assert_safe_description(name: &str, reply: &Reply) {
    let body = reply.json();
    let description = body["error_description"].as_str().expect("a string");
    let allowed = |byte: u8| matches!(byte, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    assert!(description.bytes().all(allowed) && description.len() < 200, "{name}: {description:?}");
}

#[test]
fn token_request__malformed_json() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let secret = &domain.secret;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check_each(
        [
            String::new(),
            "[]".into(),
            "null".into(),
            "\"str\"".into(),
            format!("\"{secret}\""),
            "1".into(),
            "true".into(),
            "[[[]]]".into(),
            format!("[\"{secret}\"]"),
            format!("[{{\"clientSecret\":\"{secret}\"}}]"),
            "{}".into(),
            r#"{"clientSecret":0}"#.into(),
            r#"{"clientSecret":1.5}"#.into(),
            r#"{"clientSecret":true}"#.into(),
            r#"{"clientSecret":null}"#.into(),
            r#"{"clientSecret":[]}"#.into(),
            format!(r#"{{"clientSecret":["{secret}"]}}"#),
            r#"{"clientSecret":{}}"#.into(),
            r#"{"clientSecret":{"$ne":null}}"#.into(),
            r#"{"clientSecret":{"$gt":""}}"#.into(),
            r#"{"clientSecret":{"$regex":".*"}}"#.into(),
            r#"{"clientSecret":NaN}"#.into(),
            r#"{"clientSecret":Infinity}"#.into(),
            r#"{"clientSecret":1e999}"#.into(),
            format!(r#"{{"clientSecret":"{secret}",}}"#),
            format!(r#"{{"clientSecret":"{secret}"}}}}"#),
            format!(r#"{{"clientSecret":"{secret}"}}{{"#),
            format!(r#"{{"clientSecret":"{secret}"}}{{}}"#),
            format!(r#"{{"clientSecret":"{secret}"}}x"#),
            format!("{{\"clientSecret\":\"{secret}\"}}\0"),
            format!(r#"{{"clientSecret":"{secret}"/*a*/}}"#),
            format!("{{\"clientSecret\":\"{secret}\"}}//a"),
            format!("{{'clientSecret':'{secret}'}}"),
            format!("{{clientSecret:\"{secret}\"}}"),
            format!("\u{FEFF}{{\"clientSecret\":\"{secret}\"}}"),
            format!(r#"{{"clientSecret":"{secret}","clientSecret":"{secret}"}}"#),
            format!(r#"{{"clientSecret":"wrong","clientSecret":"{secret}"}}"#),
            format!(r#"{{"clientSecret":"wrong","client\u0053ecret":"{secret}"}}"#),
            format!(r#"{{"ClientSecret":"{secret}"}}"#),
            format!(r#"{{"client_secret":"{secret}"}}"#),
            format!(r#"{{"clientSecret":"{secret}","__proto__":{{"admin":true}}}}"#),
            format!(r#"{{"clientSecret":"{secret}","constructor":{{}}}}"#),
            format!(r#"{{"clientSecret":"{secret}","scope":"admin"}}"#),
            format!(r#"{{"clientSecret":"{secret}","id":1}}"#),
            format!(r#"{{"clientSecret":"{secret}","":1}}"#),
            format!(r#"{{"clientSecret":"{secret}","a\"\r\nX-Injected: 1\\":1}}"#),
            format!(r#"{{"clientSecret":"{secret}","키\u0000\u202e":1}}"#),
            format!(r#"{{"clientSecret":"{secret}","{}":1}}"#, "k".repeat(10_000)),
            deep(128),
            deep(8000),
            format!(r#"{{"clientSecret":{}}}"#, deep(8000)),
            "[".repeat(16_000),
            "{\"a\":".repeat(3000),
        ],
        |body| {
            let name = &body[..body.floor_char_boundary(80)];
            let reply = gate.post("/token").body("application/json", body.as_str()).send();
            assert_eq!(reply.status, 400, "{name}: {}", reply.text());
            assert_eq!(reply.json()["error"], "invalid_request", "{name}");
            assert_safe_description(name, &reply);
            assert!(!reply.text().contains(secret.as_str()), "{name}: the secret is repeated");
            assert!(reply.header("x-injected").is_none());
        },
    );
    let latin1 = [b"{\"clientSecret\":\"\xE9", secret.as_bytes(), b"\"}"].concat();
    assert_eq!(gate.post("/token").body("application/json", latin1).send().status, 400);
    gate.access_token(&domain);
}

#[test]
fn client_secret__nearly_right() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let secret = domain.secret.as_str();
    let last = if secret.ends_with('0') { '1' } else { '0' };
    let rows: Vec<String> = vec![
        String::new(),
        secret[..1].into(),
        secret[..41].into(),
        secret[..36].into(),
        secret[1..].into(),
        format!("{secret}0"),
        format!("{secret}{secret}"),
        format!("{secret}\0"),
        format!("\0{secret}"),
        format!("{}\0{}", &secret[..20], &secret[20..]),
        format!("{secret}\n"),
        format!("{secret}\r\n"),
        format!(" {secret}"),
        format!("{secret} "),
        format!("{secret}\t"),
        format!("\u{FEFF}{secret}"),
        format!("{secret}\u{200B}"),
        format!("{}{last}", &secret[..41]),
        secret.to_uppercase(),
        secret.to_lowercase(),
        secret.chars().rev().collect(),
        secret.replace("gbs_", "gbS_"),
        secret.replace("gbs_", "dom_"),
        secret.replace("gbs_", ""),
        secret.replace("gbs_", "ｇbs_"),
        "%".into(),
        "_".into(),
        "%".repeat(42),
        "_".repeat(42),
        format!("gbs_{}", "%".repeat(38)),
        format!("gbs_{}", "_".repeat(38)),
        format!("gbs_{}", "0".repeat(38)),
        "' OR '1'='1".into(),
        "*".into(),
        "null".into(),
        "undefined".into(),
        "gbs_".into(),
        "키".repeat(14),
        "a".repeat(10_000),
        domain.id.clone(),
    ];
    for wrong in &rows {
        let reply = gate.post("/token").json(&json!({"clientSecret": wrong})).send();
        invalid_client(&format!("JSON {wrong:?}"), &reply);
        assert!(wrong.len() < 5 || !reply.text().contains(wrong.as_str()), "{wrong:?} is repeated");
        let encoded: String = wrong.bytes().map(|byte| format!("%{byte:02X}")).collect();
        if encoded.len() < 10_000 {
            let body = format!("{GRANT}&client_id={}&client_secret={encoded}", domain.id);
            invalid_client(&format!("form {wrong:?}"), &gate.post("/token").form(body).send());
        }
    }
    // Every single character counts.
    for position in 4..42 {
        let mut wrong = secret.to_owned();
        let other = if &wrong[position..=position] == "a" { "b" } else { "a" };
        wrong.replace_range(position..=position, other);
        invalid_client(&wrong, &gate.post("/token").json(&json!({"clientSecret": wrong})).send());
    }
    gate.access_token(&domain);
}

#[test]
fn client_id__of_another_secret() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let (_, other, _) = gate.tenant("mallory");
    for id in [&other.id, &domain.id.to_lowercase(), &format!("{}%00", domain.id), "alice", "dom_", "%25", "*"] {
        let body = format!("{GRANT}&client_id={id}&client_secret={}", domain.secret);
        invalid_client(id, &gate.post("/token").form(body).send());
    }
    for body in [
        format!("{GRANT}&client_secret={}", domain.secret),
        format!("{GRANT}&client_id=&client_secret={}", domain.secret),
    ] {
        assert_eq!(gate.post("/token").form(body).send().refused(400, "invalid_field")["field"], "client_id");
    }
    for body in [
        format!("{GRANT}&client_id={}", domain.id),
        format!("{GRANT}&client_id={}&client_secret=", domain.id),
        GRANT.to_owned(),
        String::new(),
    ] {
        invalid_client(&body, &gate.post("/token").form(body.clone()).send());
    }
}

#[test]
fn token_request__form_syntax() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let good = form(&domain, "");
    let Domain { id, secret } = &domain;
    const KIND: &str = "&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let many = |count: usize| (0..count).map(|number| format!("&{number:x}=")).collect::<String>();
    let rows: Vec<(&str, String, u16)> = vec![
        ("valid", good.clone(), 200),
        ("separators at both ends", format!("&{good}&"), 200),
        ("two separators", good.replace('&', "&&"), 200),
        ("encoded names", good.replace("client_secret", "client%5Fsecret"), 200),
        ("unknown parameters", format!("{good}&a[]=1&foo=bar&=x"), 200),
        ("2,000 unknown parameters", format!("{good}{}", many(2000)), 200),
        ("a parameter without a value", format!("{good}&scope"), 200),
        ("5,000 equal parameters", format!("{good}{}", "&a".repeat(5000)), 400),
        ("5,000 parameters", format!("{good}{}", many(5000)), 413),
        ("grant_type twice", format!("{good}&{GRANT}"), 400),
        ("grant_type twice, once empty", format!("{good}&grant_type="), 400),
        ("client_id twice", format!("{good}&client_id={id}"), 400),
        ("client_secret twice", format!("{good}&client_secret={secret}"), 400),
        ("client_secret twice, encoded", format!("{good}&client%5fsecret=x"), 400),
        ("scope twice", format!("{good}&scope=posts:read&scope=posts:read"), 400),
        ("client_assertion_type twice", format!("{GRANT}&client_assertion=x{KIND}{KIND}"), 400),
        ("client_assertion twice", format!("{GRANT}{KIND}&client_assertion=x&client_assertion=x"), 400),
        // RFC 8707 §2: the only parameter that may be repeated.
        ("resource twice", format!("{good}&resource=https://gate.test&resource=https://gate.test"), 200),
        ("resource twice, once empty", format!("{good}&resource=https://gate.test&resource="), 200),
        ("resource 500 times", format!("{good}{}", "&resource=https://gate.test".repeat(500)), 200),
        ("resource twice, once another's", format!("{good}&resource=https://gate.test&resource=https://x.test"), 400),
        ("unknown parameter twice", format!("{good}&foo=1&foo=1"), 400),
        ("empty parameters twice", format!("{good}&=&="), 400),
        ("semicolons", good.replace('&', ";"), 401),
        ("NUL behind", format!("{good}%00"), 401),
        ("NUL in a name", good.replace("client_secret", "client_secret%00"), 401),
        ("plus behind", format!("{good}+"), 401),
        ("blank behind", format!("{good}%20"), 401),
        ("%u escapes", good.replace("gbs_", "%u0067bs_"), 401),
        ("array", good.replace("client_secret", "client_secret[]"), 401),
        ("object", good.replace("client_secret=", "client_secret[$ne]="), 401),
        ("quotes", good.replace(secret, &format!("\"{secret}\"")), 401),
        ("invalid UTF-8", format!("{good}%FF"), 401),
        ("doubly encoded", good.replace("gbs_", "gbs%255F"), 401),
        ("capitals", good.replace("client_secret", "CLIENT_SECRET"), 401),
        ("JSON in a form", json!({"clientSecret": secret}).to_string(), 415),
        ("NUL bytes", "\0".repeat(100), 401),
    ];
    for (name, body, status) in rows {
        let reply = gate.post("/token").form(body).send();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        match status {
            401 => invalid_client(name, &reply),
            400 | 413 | 415 => assert_safe_description(name, &reply),
            _ => {
                let (_, claims) = parts(reply.json()["access_token"].as_str().expect("a token"));
                assert_eq!((&claims["sub"], &claims["aud"]), (&json!(id), &json!(["https://gate.test"])), "{name}");
            }
        }
    }
}

#[test]
fn token_request__other_content_types() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let body = json!({"clientSecret": domain.secret}).to_string();
    for content_type in [
        "text/plain",
        "text/plain;charset=UTF-8",
        "text/json",
        "application/jsonp",
        "application/problem+json",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded2",
        "application",
        "application/json/x",
        "json",
        "*/*",
        "",
        ";",
        "text/plain, application/json",
        "text/plain; application/json",
    ] {
        let reply = gate.post("/token").body(content_type, body.as_str()).send();
        assert_eq!(reply.status, 415, "{content_type}: {}", reply.text());
        reply.refused(415, "media_type");
    }
    let bare = format!("POST /token HTTP/1.1\r\nHost: gate\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    raw(&gate, bare.as_bytes())[0].refused(415, "media_type");
    for encoding in ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "x", "\u{ff}"] {
        for request in
            [gate.post("/token").body("application/json", body.as_str()), gate.post("/token").form(form(&domain, ""))]
        {
            let reply = request.header("Content-Encoding", encoding).send();
            assert_eq!(reply.status, 415, "{encoding}: {}", reply.text());
            reply.refused(415, "media_type");
        }
    }
}

#[test]
fn client_secret__in_the_url_is_ignored() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let Domain { id, secret } = &domain;
    let query = format!("?clientSecret={secret}&client_secret={secret}&client_id={id}&{GRANT}");
    let path = format!("/token{query}");
    gate.post(&path).json(&json!({})).send().refused(400, "invalid_field");
    invalid_client("a form without credentials", &gate.post(&path).form(GRANT).send());
    gate.post(&path).body("text/plain", "").send().refused(415, "media_type");
    gate.get(&path).send().refused(405, "method");
    gate.post(&format!("/token/{secret}")).json(&json!({})).send().refused(404, "not_found");
    // Beside good credentials the query is not read.
    let other = format!("/token?client_secret=wrong&scope=posts:read&{GRANT}");
    assert_eq!(gate.post(&other).form(form(&domain, "")).send().expect(200)["scope"], super::SCOPES);
    for name in ["X-Client-Secret", "Client-Secret", "Cookie", "X-Api-Key"] {
        let request = gate.post("/token").json(&json!({})).header(name, secret);
        request.send().refused(400, "invalid_field");
    }
}

#[test]
fn token_request__body_of_up_to_16_kib() {
    let gate = Gate::start();
    let (_, domain, _) = gate.tenant("alice");
    let padded = |size: usize| {
        let body = json!({"clientSecret": domain.secret}).to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    gate.post("/token").body("application/json", padded(16 * 1024)).send().expect(200);
    let large = gate.post("/token").body("application/json", padded(16 * 1024 + 1)).send();
    assert_eq!(large.refused(413, "too_large")["error"], "invalid_request");
    gate.post("/token")
        .form(format!("{}&x={}", form(&domain, ""), "a".repeat(16 * 1024)))
        .send()
        .refused(413, "too_large");

    let chunked = |chunks: &[&str]| {
        let mut request = String::from(
            "POST /token HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for chunk in chunks {
            request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        raw(&gate, format!("{request}0\r\n\r\n").as_bytes()).remove(0)
    };
    let body = padded(16 * 1024);
    let pieces: Vec<&str> =
        body.as_bytes().chunks(1000).map(|piece| std::str::from_utf8(piece).expect("ASCII")).collect();
    chunked(&pieces).expect(200);
    chunked(&[&body, " "]).refused(413, "too_large");
    chunked(&[]).refused(400, "malformed");
    let by_bytes = json!({"clientSecret": domain.secret}).to_string();
    let bytes: Vec<String> = by_bytes.chars().map(String::from).collect();
    chunked(&bytes.iter().map(String::as_str).collect::<Vec<_>>()).expect(200);

    // Far too large: refused by the length alone, or by what has arrived.
    for size in ["16385", "1000000000", "18446744073709551615"] {
        let head = format!(
            "POST /token HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n{{"
        );
        let reply = raw(&gate, head.as_bytes()).remove(0);
        assert!(matches!(reply.status, 400 | 413), "{size}: {reply:?}");
    }
    let megabyte = "x".repeat(1 << 20);
    chunked(&[&megabyte]).refused(413, "too_large");
    gate.access_token(&domain);
}
