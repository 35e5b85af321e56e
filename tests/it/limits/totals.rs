//! The limits of all accounts and all domains together.

use std::fs;
use std::sync::Arc;

use crate::binary::{gatebird, run};
use crate::harness::{Database, Gate, PASSWORD, User, json};
use crate::log_recorder;

#[test]
fn max_users__reached() {
    let gate = Gate::with(&[("MAX_USERS", "2")]);
    let (alice, _) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let sign_up = |name: &str| gate.post("/v1/signup").json(&json!({"username": name, "password": PASSWORD})).send();
    let refused = sign_up("carol").refused(403, "quota");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("MAX_USERS")), "{refused}");
    let add = || run(&mut gatebird(&gate.database, &["user", "add", "carol"], &[("MAX_USERS", "2")]), PASSWORD);
    let refused = add();
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("MAX_USERS"), "{refused:?}");
    let text = gate.app.metrics_text();
    assert!(text.contains("gatebird_users 2\n") && text.contains("gatebird_max_users 2\n"), "{text}");

    let body = json!({"password": PASSWORD});
    gate.delete("/v1/me").token(&alice.token).json(&body).send().expect(200);
    sign_up("dave").expect(201);
}

#[test]
fn max_domains__reached() {
    let gate = Gate::with(&[("MAX_DOMAINS", "2")]);
    let alice = gate.sign_up("alice");
    let first = gate.register(&alice, "one.example.com");
    gate.register(&alice, "two.example.com");
    let register =
        |host: &str| gate.post("/v1/domains").token(&alice.token).json(&json!({"host": host, "type": "free"})).send();
    register("three.example.com").refused(403, "quota");
    let add = ["domain", "add", "three.example.com", "--user", "alice"];
    let refused = run(&mut gatebird(&gate.database, &add, &[("MAX_DOMAINS", "2")]), "");
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("MAX_DOMAINS"), "{refused:?}");
    let text = gate.app.metrics_text();
    assert!(text.contains("gatebird_domains 2\n") && text.contains("gatebird_max_domains 2\n"), "{text}");

    gate.delete(&format!("/v1/domains/{}", first.id)).token(&alice.token).send().expect(200);
    register("three.example.com").expect(201);
}

#[test]
fn max_users_and_max_domains__four_fifths_reached() {
    log_recorder::record();
    let gate = Gate::with(&[("MAX_USERS", "5"), ("MAX_DOMAINS", "10")]);
    let warnings = || {
        gate.app.maintain().expect("the database answers");
        ["WARN MAX_USERS: 4 of 5 in use", "WARN MAX_DOMAINS: 8 of 10 in use"].map(log_recorder::count)
    };
    let delete = |path: &str, user: &User| {
        gate.delete(path).token(&user.token).json(&json!({"password": PASSWORD})).send().expect(200);
    };
    let alice = gate.sign_up("alice");
    gate.sign_up("bob");
    gate.sign_up("carol");
    for number in 0..7 {
        gate.register(&alice, &format!("shop{number}.example.com"));
    }
    assert_eq!(warnings(), [0, 0]);
    let dave = gate.sign_up("dave");
    assert_eq!(warnings(), [1, 0]);
    let domain = gate.register(&alice, "shop.example.com");
    assert_eq!(warnings(), [1, 1]);
    assert_eq!(warnings(), [1, 1], "one warning is enough");
    delete("/v1/me", &dave);
    gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
    assert_eq!(warnings(), [1, 1]);
    gate.sign_up("erin");
    gate.register(&alice, "shop.example.com");
    assert_eq!(warnings(), [2, 2], "reached again");
}

/// A file is imported as a whole or not at all.
#[test]
fn max_users_and_max_domains__import_beyond_them() {
    let database = Arc::new(Database::new());
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    let row = |table: &str, id: u32, rest: &str| {
        format!(r#"{{"table":"{table}","id":{id},"createdAt":1500000000,"deletedAt":null,{rest}}}"#)
    };
    let user = |id| {
        let rest =
            format!(r#""email":"u{id}@example.com","nick":"n","password":null,"provider":"kakao","snsId":"{id}""#);
        row("users", id, &rest)
    };
    let domain = |id| {
        let secret = format!("{id:08x}-0000-4000-8000-0123456789ab");
        row("domains", id, &format!(r#""host":"h{id}.example.com","type":"free","clientSecret":"{secret}","userId":1"#))
    };
    let end = r#"{"table":"end","users":2,"domains":2}"#.to_owned();
    let export = [user(1), user(2), domain(1), domain(2), end].join("\n");
    let csv = "username,host,type\nbob,h1.example.com,free\ncarol,h2.example.com,free\n";
    for (file, content, import) in [
        ("export.jsonl", export.as_str(), &["import", "nodebird", "export.jsonl"][..]),
        ("domains.csv", csv, &["import", "domains", "domains.csv", "--make-users", "--secrets", "secrets.csv"]),
    ] {
        fs::write(database.dir.path().join(file), content).expect("a file");
        let count = |what: &str| {
            let listed = run(&mut gatebird(&database, &[what, "list", "--json"], &[]), "").json();
            listed.as_array().expect("a list").len()
        };
        let before = [count("user"), count("domain")];
        let (users, domains) = (before[0] + 2, before[1] + 2);
        let import = |max_users: usize, max_domains: usize| {
            let settings = [("MAX_USERS", max_users.to_string()), ("MAX_DOMAINS", max_domains.to_string())];
            let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
            run(&mut gatebird(&database, import, &settings), "")
        };
        for (refused, setting) in
            [(import(users - 1, domains), "MAX_USERS"), (import(users, domains - 1), "MAX_DOMAINS")]
        {
            assert_eq!(refused.code, Some(64), "{refused:?}");
            assert!(refused.stderr.contains(setting), "{refused:?}");
            assert_eq!([count("user"), count("domain")], before, "{setting}");
            assert!(!database.dir.path().join("secrets.csv").exists(), "no secret was made");
        }
        import(users, domains).good();
        assert_eq!([count("user"), count("domain")], [users, domains]);
    }
}
