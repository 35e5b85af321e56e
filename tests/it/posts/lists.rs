//! Lists of posts: hashtags in every spelling, and pages that neither skip nor repeat.

use super::{create, write};
use crate::harness::{Gate, Reply, Value, json};

fn by_hashtag(gate: &Gate, token: &str, title: &str) -> Reply {
    gate.get(&format!("/v1/posts/hashtag/{title}")).token(token).send()
}

fn ids(answer: &Value) -> Vec<i64> {
    let posts = answer["payload"].as_array().expect("an array");
    posts.iter().map(|post| post["id"].as_i64().expect("a number")).collect()
}

/// Every byte as `%XX`.
fn encoded(title: &str) -> String {
    title.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn hashtag__found_in_every_spelling() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let korean = write(&gate, &token, "제주도 #여행 좋다");
    let decomposed = write(&gate, &token, "#\u{110b}\u{1167}\u{1112}\u{1162}\u{11bc}");
    let street = write(&gate, &token, "Die #Straße, die #STRASSE und #Rust_2024");
    for (title, found) in [
        ("%EC%97%AC%ED%96%89", vec![decomposed, korean]),
        ("%ec%97%ac%ed%96%89", vec![decomposed, korean]),
        (&encoded("\u{110b}\u{1167}\u{1112}\u{1162}\u{11bc}"), vec![decomposed, korean]),
        (&encoded("#여행"), vec![decomposed, korean]),
        (&encoded("straße"), vec![street]),
        ("STRASSE", vec![street]),
        (&encoded("STRAẞE"), vec![street]),
        ("rust_2024", vec![street]),
        ("%23RUST_2024", vec![street]),
        ("%72ust_2024", vec![street]),
    ] {
        assert_eq!(ids(&by_hashtag(&gate, &token, title).expect(200)), found, "{title}");
    }
    for title in [
        "none",
        "rust",
        "rust_2024_",
        "rust%25",
        "rust_202%3F",
        "%25",
        "_",
        "a%20b",
        "a-b",
        "%23",
        "%23%23rust_2024",
        "%00",
        "rust_2024%00",
        "rust_2024%2F",
        "%27%20OR%201=1--",
        &encoded("여"),
        &encoded("👍"),
        &"a".repeat(4000),
    ] {
        let refusal = by_hashtag(&gate, &token, title).refused(404, "not_found");
        assert_eq!(refusal["message"], json!("No results"), "{title:.40}");
        let path = format!("/v1/posts/hashtag/{title}");
        let korean = gate.get(&path).token(&token).header("Accept-Language", "ko").send().refused(404, "not_found");
        assert_eq!(korean["message"], json!("검색 결과가 없습니다"), "{title:.40}");
        assert_eq!(korean["error_description"], json!("No results"));
    }
    // Not valid UTF-8.
    for title in ["%FF", "%C3%28", "%ED%A0%80"] {
        let reply = by_hashtag(&gate, &token, title);
        assert!(matches!(reply.status, 400 | 404), "{title} {} {}", reply.status, reply.text());
    }
}

#[test]
fn hashtag__follows_the_content() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let made = create(&gate, &token, &json!({"content": "#Rust #rust #여행 #a#b"})).expect(201);
    assert_eq!(made["payload"]["hashtags"], json!(["rust", "여행", "a", "b"]));
    let id = made["payload"]["id"].as_i64().expect("a number");
    let path = format!("/v1/posts/{id}");
    let check = |found: &[&str], gone: &[&str]| {
        for title in found {
            assert_eq!(ids(&by_hashtag(&gate, &token, &encoded(title)).expect(200)), [id], "{title}");
        }
        for title in gone {
            by_hashtag(&gate, &token, &encoded(title)).refused(404, "not_found");
        }
    };
    check(&["rust", "여행", "a", "b"], &["go"]);
    for (content, found, gone) in [
        ("#rust #go", vec!["rust", "go"], vec!["여행", "a", "b"]),
        ("nothing", vec![], vec!["rust", "go"]),
        ("#여행", vec!["여행"], vec!["rust", "go"]),
    ] {
        gate.put(&path).token(&token).json(&json!({ "content": content })).send().expect(200);
        check(&found, &gone);
    }
    gate.delete(&path).token(&token).send().expect(200);
    check(&[], &["여행"]);
}

#[test]
fn post_list__invalid_limit_or_cursor() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    for _ in 0..3 {
        write(&gate, &token, "#x");
    }
    for list in ["/v1/posts/my", "/v1/posts/hashtag/x"] {
        let get = |query: &str| gate.get(&format!("{list}?{query}")).token(&token).send();
        let cursor = get("limit=1").expect(200)["nextCursor"].as_str().expect("another page").to_owned();
        for (query, length) in [("", 3), ("limit=1", 1), ("limit=3", 3), ("limit=100", 3)] {
            assert_eq!(ids(&get(query).expect(200)).len(), length, "{query}");
        }
        assert_eq!(get(&format!("limit=0&cursor={cursor}")).refused(400, "invalid_field")["field"], json!("limit"));
        let spoilt = [format!("{cursor}="), format!("{cursor}A"), format!("%20{cursor}"), format!("{cursor}%00")];
        let made = [
            &cursor[1..],
            "",
            "x",
            "1",
            "AAAA",
            "AAAAAAAAAAA",
            "__________8",
            "%FF",
            "%27",
            "AAAAAAAAAAB",
            "null",
            &"A".repeat(2000),
        ];
        for cursor in made.into_iter().chain(spoilt.iter().map(String::as_str)) {
            let refusal = get(&format!("cursor={cursor}")).refused(400, "invalid_field");
            assert_eq!(refusal["field"], json!("cursor"), "{cursor:.40}");
        }
        for query in [format!("cursor={cursor}&cursor={cursor}"), "limit=1&limit=2".into()] {
            assert_eq!(get(&query).status, 400, "{query}");
        }
    }
}

#[test]
fn post_list__pages_of_50() {
    let gate = Gate::start();
    let (_, _, token) = gate.tenant("alice");
    let written: Vec<i64> = (0..51).map(|_| write(&gate, &token, "#x")).collect();
    let newest_first: Vec<i64> = written.iter().rev().copied().collect();
    for list in ["/v1/posts/my", "/v1/posts/hashtag/X"] {
        let first = gate.get(list).token(&token).send().expect(200);
        assert_eq!(ids(&first), newest_first[..50]);
        let cursor = first["nextCursor"].as_str().expect("another page");
        let last = gate.get(&format!("{list}?cursor={cursor}")).token(&token).send().expect(200);
        assert_eq!(ids(&last), newest_first[50..]);
        assert!(last.get("nextCursor").is_none(), "{last}");
    }
    gate.delete(&format!("/v1/posts/{}", written[25])).token(&token).send().expect(200);
    for list in ["/v1/posts/my", "/v1/posts/hashtag/x"] {
        let whole = gate.get(list).token(&token).send().expect(200);
        assert_eq!(ids(&whole).len(), 50);
        assert!(whole.get("nextCursor").is_none(), "exactly full and nothing after it");
    }
}

#[test]
fn post_list__pages_neither_skip_nor_repeat() {
    let gate = Gate::start();
    for (username, list) in [("alice", "/v1/posts/my"), ("bob", "/v1/posts/hashtag/walk")] {
        let (_, _, token) = gate.tenant(username);
        let remove = |id: i64| drop(gate.delete(&format!("/v1/posts/{id}")).token(&token).send().expect(200));
        let mut expected: Vec<i64> = (0..120).map(|_| write(&gate, &token, "#walk")).collect();
        let mut walked: Vec<i64> = Vec::new();
        let mut query = String::from("?limit=7");
        loop {
            let page = gate.get(&format!("{list}{query}")).token(&token).send().expect(200);
            walked.extend(ids(&page));
            let Some(cursor) = page["nextCursor"].as_str() else {
                break;
            };
            query = format!("?limit=7&cursor={cursor}");
            write(&gate, &token, "#walk too late for this walk");
            // Deletes the post at the cursor, and the oldest one ahead.
            let last = *walked.last().expect("a page before another is not empty");
            remove(last);
            remove(expected.remove(0));
        }
        expected.reverse();
        assert_eq!(walked, expected, "{list}: newest first, each once");
        assert!(walked.len() > 100, "{}", walked.len());
    }
}
