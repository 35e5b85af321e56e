//! Posts over HTTP: their content, and access to them.

mod lists;

use crate::accounts::row_counts;
use crate::harness::{Domain, Gate, Reply, Value, json};

fn create(gate: &Gate, token: &str, body: &Value) -> Reply {
    gate.post("/v1/posts").token(token).json(body).send()
}

/// Creates a post and returns its id.
pub fn write(gate: &Gate, token: &str, content: &str) -> i64 {
    create(gate, token, &json!({ "content": content })).expect(201)["payload"]["id"].as_i64().expect("a number")
}

/// An access token with only those scopes.
pub fn scoped(gate: &Gate, domain: &Domain, scope: &str) -> String {
    let form = format!("grant_type=client_credentials&scope={scope}");
    let answer = gate.post("/token").basic(&domain.id, &domain.secret).form(form).send().expect(200);
    answer["access_token"].as_str().expect("a token").into()
}

#[test]
fn post__created_shown_changed_and_deleted() {
    let gate = Gate::start();
    let (alice, _, access) = gate.tenant("alice");
    let img = "https://img.example.com/a.png";
    for token in [&alice.token, &access] {
        let now = gate.clock.now();
        let made = create(&gate, token, &json!({"content": "hello #World", "img": img})).expect(201)["payload"].clone();
        let (id, created) = (made["id"].as_i64().expect("a number"), made["createdAt"].as_i64().expect("a number"));
        assert!((now..now + 30).contains(&created), "{created}");
        let expected = json!({"id": id, "content": "hello #World", "img": img, "hashtags": ["world"], "createdAt": created, "updatedAt": created});
        assert_eq!(made, expected);
        let path = format!("/v1/posts/{id}");
        let shown = gate.get(&path).token(token).send();
        assert_eq!(shown.expect(200)["payload"], expected);
        assert_eq!(shown.header("cache-control"), Some("no-store"));

        gate.clock.advance(100);
        let changed = gate.put(&path).token(&alice.token).json(&json!({"content": "bye"})).send().expect(200);
        let updated = changed["payload"]["updatedAt"].as_i64().expect("a number");
        assert!(updated >= created + 100, "{updated}");
        let expected = json!({"id": id, "content": "bye", "img": null, "hashtags": [], "createdAt": created, "updatedAt": updated});
        assert_eq!(changed["payload"], expected);
        assert_eq!(gate.get(&path).token(&alice.token).send().expect(200)["payload"], expected);

        gate.delete(&path).token(&alice.token).send().expect(200);
        for request in [gate.get(&path), gate.delete(&path), gate.put(&path).json(&json!({"content": "again"}))] {
            request.token(&alice.token).send().refused(404, "not_found");
        }
        gate.clock.advance(-100);
    }
    assert_eq!(row_counts(&gate)[3..], [0, 0]);
}

#[test]
fn post__valid_content() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    // Characters are counted, not bytes, UTF-16 units or graphemes.
    for content in [
        "a",
        "\u{feff}",
        &"가".repeat(140),
        &"🐦".repeat(140),
        &"e\u{301}".repeat(70),
        "two\nlines\r\n\tand a tab",
        "'; DROP TABLE posts; --",
        "<script>alert(1)</script>",
        "\u{202e}right to left",
        "\\u0000 is not a NUL",
        "👨‍👩‍👧‍👦 #가족",
    ] {
        let made = create(&gate, &token, &json!({ "content": content })).expect(201);
        assert_eq!(made["payload"]["content"], json!(content));
        let path = format!("/v1/posts/{}", made["payload"]["id"]);
        assert_eq!(gate.get(&path).token(&token).send().expect(200)["payload"]["content"], json!(content));
    }
    let url200 = format!("https://img.example.com/{}", "a".repeat(200 - 24));
    for img in [
        json!("http://img.example.com"),
        json!("https://img.example.com:8443/a/b.png?c=d&e=%20#f"),
        json!("HTTPS://IMG.EXAMPLE.COM/"),
        json!("https://한국.kr/그림.png"),
        json!(url200),
        json!(null),
    ] {
        let made = create(&gate, &token, &json!({"content": "with a picture", "img": img})).expect(201);
        assert_eq!(made["payload"]["img"], img);
    }
}

#[test]
fn post__invalid_content() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let token = &alice.token;
    let id = write(&gate, token, "unchanged #tag");
    let path = format!("/v1/posts/{id}");
    let before = gate.get(&path).token(token).send().expect(200);
    let mut cases = vec![
        (json!({}), "content"),
        (json!({"img": "https://img.example.com/"}), "content"),
        (json!({"content": "x", "id": 1}), "id"),
        (json!({"content": "x", "userId": 1}), "userId"),
        (json!({"content": "x", "hashtags": ["a"]}), "hashtags"),
        (json!({"content": "x", "Img": null}), "Img"),
    ];
    for wrong in [json!(null), json!(0), json!(true), json!([]), json!(["x"]), json!({"$gt": ""})] {
        if !wrong.is_null() {
            cases.push((json!({"content": "x", "img": wrong}), "img"));
        }
        cases.push((json!({"content": wrong}), "content"));
    }
    for content in [
        "",
        &"a".repeat(141),
        &"가".repeat(141),
        &"🐦".repeat(141),
        &"e\u{301}".repeat(71),
        "a\0b",
        "\0",
        "a\u{1}",
        "a\u{8}b",
        "a\u{b}b",
        "a\u{1b}[31mb",
        "a\u{7f}b",
        "a\u{85}b",
        "a\u{9f}b",
    ] {
        cases.push((json!({ "content": content }), "content"));
    }
    let url201 = format!("https://img.example.com/{}", "a".repeat(201 - 24));
    for img in [
        "",
        " ",
        "img.png",
        "/img.png",
        "//img.example.com/a.png",
        "img.example.com/a.png",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\nscript:alert(1)",
        "data:image/png;base64,AAAA",
        "ftp://img.example.com/a.png",
        "file:///etc/passwd",
        "blob:https://img.example.com/a",
        "http://",
        "https://?a",
        " https://img.example.com/",
        "https://img.example.com/\n",
        "https://img.example.com/a b",
        "https://img.example.com/\0",
        "https://exa mple.com/",
        "https://[::1/",
        "https://img.example.com:99999/",
        &url201,
    ] {
        cases.push((json!({"content": "x", "img": img}), "img"));
    }
    for (body, field) in &cases {
        for request in [gate.post("/v1/posts"), gate.put(&path)] {
            let refusal = request.token(token).json(body).send().refused(400, "invalid_field");
            assert_eq!(refusal["field"], json!(field), "{body}");
        }
    }
    for body in ["", "null", "[]", "[\"x\",null]", "\"x\"", "{\"content\":\"x\"", "{\"content\":\"\\ud83d\"}"] {
        for request in [gate.post("/v1/posts"), gate.put(&path)] {
            request.token(token).body("application/json", body).send().refused(400, "malformed");
        }
    }
    assert_eq!(gate.get(&path).token(token).send().expect(200), before);
    assert_eq!(row_counts(&gate)[3..], [1, 1]);
}

#[test]
fn post__body_of_up_to_64_kib() {
    let gate = Gate::start();
    let (alice, _, _) = gate.tenant("alice");
    let body = |length: usize| {
        let start = r#"{"content":"x"}"#;
        format!("{start}{}", " ".repeat(length - start.len()))
    };
    let path = format!("/v1/posts/{}", write(&gate, &alice.token, "x"));
    for (length, status) in
        [(17 * 1024, [201, 200]), (64 * 1024, [201, 200]), (64 * 1024 + 1, [413, 413]), (1 << 20, [413, 413])]
    {
        for (request, status) in [gate.post("/v1/posts"), gate.put(&path)].into_iter().zip(status) {
            let reply = request.token(&alice.token).body("application/json", body(length)).send();
            assert_eq!(reply.status, status, "{length}: {}", reply.text());
        }
    }
    gate.post("/v1/posts").token(&alice.token).form("content=x").send().refused(415, "media_type");
}

#[test]
fn post__scope_decides_access() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let path = format!("/v1/posts/{}", write(&gate, &alice.token, "#x"));
    let body = json!({"content": "#x"});
    for (scope, reads, writes) in
        [("posts:read", true, false), ("posts:write", false, true), ("posts:read+posts:write", true, true)]
    {
        let token = scoped(&gate, &domain, scope);
        let reading = [gate.get("/v1/posts/my"), gate.get("/v1/posts/hashtag/x"), gate.get(&path)];
        let writing = [gate.post("/v1/posts").json(&body), gate.put(&path).json(&body), gate.delete("/v1/posts/1000")];
        for (requests, is_allowed) in [(reading, reads), (writing, writes)] {
            for request in requests {
                let reply = request.token(&token).send();
                match is_allowed {
                    true => assert!(matches!(reply.status, 200 | 201 | 404), "{scope} {}", reply.text()),
                    false => drop(reply.refused(403, "scope")),
                }
            }
        }
    }
    gate.delete(&path).token(scoped(&gate, &domain, "posts:read")).send().refused(403, "scope");
    gate.get(&path).token(&alice.token).send().expect(200);
}
