//! Accounts over HTTP: sign-up, sign-in, the user's own account, suspension and deletion.

mod abuse;
mod passwords;

use diesel::prelude::*;
use gatebird::app::InForce;
use gatebird::db::audit::Audited;
use gatebird::db::schema::{domains, post_hashtags, posts, secrets, users};
use gatebird::db::{Conn, user};
use gatebird::error::Result;

use crate::harness::{Domain, Gate, PASSWORD, Reply, User, Value, caller, json, parts};

/// Changes the directory's tables in the running server.
pub fn change<T: Send + 'static>(gate: &Gate, work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static) -> T {
    actix_web::rt::System::new()
        .block_on(gate.app.write(caller(), InForce::BeforeAnswer, |conn| Ok(Audited::nothing(work(conn)?))))
        .expect("the change is made")
}

/// Suspends or resumes a user.
pub fn set_suspended(gate: &Gate, username: &str, suspended: bool) {
    let row = stored(gate, username);
    change(gate, move |conn| Ok(user::set_suspended(conn, row.tenant.id, suspended)?));
}

/// A user's row.
pub fn stored(gate: &Gate, username: &str) -> user::UserRow {
    let row = gate.app.db.read_now(|conn| Ok(user::find_by_name(conn, &username.to_lowercase())?));
    row.expect("the database answers").expect("there is such a user")
}

/// The number of accounts, and of rows of domains, secrets, posts and hashtags of posts.
pub fn row_counts(gate: &Gate) -> [i64; 5] {
    let count = |conn: &mut Conn| {
        Ok([
            users::table.filter(users::ended.eq(false)).count().get_result(conn)?,
            domains::table.count().get_result(conn)?,
            secrets::table.count().get_result(conn)?,
            posts::table.count().get_result(conn)?,
            post_hashtags::table.count().get_result(conn)?,
        ])
    };
    gate.app.db.read_now(count).expect("the database answers")
}

pub fn sign_in(gate: &Gate, username: &str, password: &str) -> Reply {
    gate.post("/v1/signin").json(&json!({"username": username, "password": password})).send()
}

/// Asks for an access token with that domain's secret.
pub fn exchange(gate: &Gate, domain: &Domain) -> Reply {
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send()
}

fn delete_account(gate: &Gate, user: &User, password: &str) -> Reply {
    gate.delete("/v1/me").token(&user.token).json(&json!({ "password": password })).send()
}

#[test]
fn sign_up__shows_the_new_account() {
    let gate = Gate::start();
    let long = "x".repeat(40);
    let hangul = "가".repeat(40);
    let emoji = "🐦".repeat(40);
    for (username, nick) in [
        ("abc", None),
        ("123", None),
        (&*long, None),
        ("A.b_c-d+e@f", None),
        ("nick.of.one", Some("김")),
        ("nick.of.many", Some(&*hangul)),
        ("nick.of.birds", Some(&*emoji)),
        ("nick.rtl", Some("עברית العربية")),
        ("nick.spaces", Some("Ada Lovelace")),
    ] {
        let mut body = json!({"username": username, "password": PASSWORD});
        if let Some(nick) = nick {
            body["nick"] = json!(nick);
        }
        let reply = gate.post("/v1/signup").json(&body).send();
        let answer = reply.expect(201);
        assert!(!reply.text().contains("assword"), "{answer}");
        let id = answer["payload"]["id"].as_i64().expect("a number");
        let account = json!({"id": id, "username": username, "nick": nick.unwrap_or(username)});
        assert_eq!(answer["payload"], account);

        let token = answer["token"].as_str().expect("a token");
        assert_eq!(gate.get("/v1/me").token(token).send().expect(200)["payload"], account);
        let (header, claims) = parts(token);
        assert_eq!(header["typ"], json!("JWT"));
        assert_eq!(claims["sub"], json!(format!("usr_{id}")));
        let shown = |name: &Value| if username.contains('@') { json!(format!("usr_{id}")) } else { name.clone() };
        assert_eq!(claims["id"], json!(id));
        assert_eq!((&claims["username"], &claims["nick"]), (&shown(&account["username"]), &shown(&account["nick"])));
        assert_eq!(sign_in(&gate, username, PASSWORD).expect(200)["payload"], account);
    }
}

/// These names are visible to the server of every domain: in tokens, at introspection and behind a proxy.
#[test]
fn claims__names_with_an_at_sign_are_replaced_by_the_public_id() {
    let gate = Gate::start();
    let sign_up = |username: &str, nick: &str| {
        let body = json!({"username": username, "password": PASSWORD, "nick": nick});
        let answer = gate.post("/v1/signup").json(&body).send().expect(201);
        let id = answer["payload"]["id"].as_i64().expect("a number");
        crate::harness::User { token: answer["token"].as_str().expect("a token").into(), id }
    };
    for (username, nick, hides) in [
        ("alice@example.com", "Alice", [true, false]),
        ("bob@example.com", "bob@example.com", [true, true]),
        ("carol", "Carol <carol@example.com>", [false, true]),
        ("dave", "Dave", [false, false]),
    ] {
        let user = sign_up(username, nick);
        let public = format!("usr_{}", user.id);
        let [name, called] = [(username, hides[0]), (nick, hides[1])].map(|(name, hidden)| match hidden {
            true => public.clone(),
            false => name.to_owned(),
        });
        let domain = gate.register(&user, &format!("d{}.example.com", user.id));
        let access = gate.access_token(&domain);
        for token in [&user.token, &access] {
            let claims = parts(token).1;
            assert_eq!((&claims["username"], &claims["nick"]), (&json!(name), &json!(called)));
            assert_eq!(gate.get("/v1/test").token(token).send().expect(200), claims);
        }
        let form = format!("token={access}");
        let introspected = gate.post("/introspect").basic(&domain.id, &domain.secret).form(form).send().expect(200);
        assert_eq!(introspected["active"], json!(true));
        let behind = gate.get("/verify").token(&access).send();
        assert_eq!(behind.header("x-gatebird-user"), Some(user.id.to_string().as_str()));
        let words = format!("{introspected} {:?}", behind.headers);
        assert!(!words.contains('@') && !words.contains("%40"), "{words}");
        // The user's own view shows the full names.
        let own = gate.get("/v1/me").token(&user.token).send().expect(200)["payload"].clone();
        assert_eq!((&own["username"], &own["nick"]), (&json!(username), &json!(nick)));
    }
}

#[test]
fn sign_up__invalid_member_is_named() {
    let gate = Gate::start();
    let with = |member: &str, value: Value| {
        let mut body = json!({"username": "newcomer", "password": PASSWORD});
        body[member] = value;
        body
    };
    let without = |member: &str| {
        let mut body = with("nick", json!("New"));
        body.as_object_mut().expect("an object").remove(member);
        body
    };
    let mut cases = vec![
        (without("username"), "username"),
        (without("password"), "password"),
        (json!({}), "username"),
        (with("admin", json!(true)), "admin"),
        (with("id", json!(1)), "id"),
        (with("Username", json!("other")), "Username"),
        (with("__proto__", json!({})), "__proto__"),
    ];
    for wrong in [json!(null), json!(0), json!(1.5), json!(true), json!([]), json!(["abc"]), json!({"$ne": null})] {
        cases.push((with("username", wrong.clone()), "username"));
        cases.push((with("password", wrong.clone()), "password"));
        if !wrong.is_null() {
            cases.push((with("nick", wrong), "nick"));
        }
    }
    let long = "x".repeat(41);
    for username in [
        "",
        "ab",
        &long,
        "a b c",
        " abc",
        "abc ",
        "abc\n",
        "abc\0",
        "a/b/c",
        "abc%",
        "abc*",
        "abc'--",
        "<abc>",
        "김김",
        "\u{430}lice",       // a Cyrillic а
        "\u{ff41}lice",      // a fullwidth ａ
        "a\u{200b}lice",     // a zero-width space
        "ali\u{202e}ce",     // right-to-left from here
        "a@b.com\r\nBcc: x", // a header, if it is sent by e-mail
        "usr_1",             // the form of a public id
        "USR_7",
        "Usr_007",
        "usr_99999999999999999999",
    ] {
        cases.push((with("username", json!(username)), "username"));
    }
    let long = "가".repeat(41);
    for nick in ["", " ", " \u{3000}\u{a0}", &long, "a\0b", "a\nb", "a\u{1b}[31mb", "a\u{7f}b", "a\u{85}b"] {
        cases.push((with("nick", json!(nick)), "nick"));
    }
    for (body, field) in &cases {
        let refusal = gate.post("/v1/signup").json(body).send().refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!(field), "{body}");
    }
    assert_eq!(row_counts(&gate)[0], 0);
    let body = json!({"username": "usr_7", "password": PASSWORD});
    for (language, says) in [("en", "an id (usr_ and digits)"), ("ko", "ID 형태의 이름은 사용할 수 없습니다")]
    {
        let refusal = gate.post("/v1/signup").json(&body).header("Accept-Language", language).send();
        let message = refusal.refused(400, "invalid_field")["message"].to_string();
        assert!(message.contains(says), "{message}");
    }
    for near in ["usr_", "usr_7x", "usr_x7", "usr-7", "ausr_7", "usr__7"] {
        gate.sign_up(near);
    }
}

/// A token shows `usr_7` instead of a hidden name. No other user may show the same text, whenever the name was chosen.
#[test]
fn claims__username_like_a_public_id_is_replaced() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice@example.com");
    let alices = format!("usr_{}", alice.id);
    assert_eq!(parts(&alice.token).1["username"], json!(alices));
    passwords::insert_user(&gate, &alices, passwords::hash(PASSWORD, 4));
    let body = json!({"username": "mallory", "password": PASSWORD, "nick": alices.to_uppercase()});
    gate.post("/v1/signup").json(&body).send().expect(201);
    for (name, hides) in [(&*alices, [true, true]), ("mallory", [false, true])] {
        let signed_in = sign_in(&gate, name, PASSWORD).expect(200);
        let own = format!("usr_{}", signed_in["payload"]["id"]);
        assert_ne!(own, alices);
        let claims = parts(signed_in["token"].as_str().expect("a token")).1;
        let shown = |hidden: bool| if hidden { own.clone() } else { name.to_owned() };
        assert_eq!((&claims["username"], &claims["nick"]), (&json!(shown(hides[0])), &json!(shown(hides[1]))));
    }
}

#[test]
fn sign_up_and_sign_in__malformed_body() {
    let gate = Gate::start();
    gate.sign_up("alice");
    let credentials = [json!("alice"), json!(PASSWORD)];
    let as_array = json!(credentials).to_string();
    let with_nick = json!([credentials[0], credentials[1], null]).to_string();
    for path in ["/v1/signup", "/v1/signin"] {
        for body in [
            "",
            " ",
            "null",
            "1",
            "\"alice\"",
            "[]",
            "[[]]",
            &as_array,
            &with_nick,
            "{",
            "{\"username\":\"alice\",\"password\":\"x\"}}",
            "{'username':'alice'}",
            "{\"username\":\"alice\",}",
            "{\"username\":\"\\ud800\",\"password\":\"x\"}",
            "\u{feff}{}",
        ] {
            let reply = gate.post(path).body("application/json", body).send();
            let refusal = reply.refused(400, "malformed");
            assert!(refusal.get("field").is_none(), "{path} {body}");
        }
        let repeated = r#"{"username":"alice","username":"bob","password":"x"}"#;
        assert_eq!(gate.post(path).body("application/json", repeated).send().status, 400);
        assert_eq!(gate.post(path).body("application/json", b"{\"username\":\"\xff\"}").send().status, 400);
        let form = format!("username=alice&password={PASSWORD}");
        gate.post(path).form(form).send().refused(415, "media_type");
        gate.post(path).body("text/plain", "{}").send().refused(415, "media_type");
        gate.post(path).body("application/json", " ".repeat(17 * 1024)).send().refused(413, "too_large");
    }
}

#[test]
fn username__is_unique_without_regard_to_case() {
    let gate = Gate::start();
    gate.sign_up("Alice");
    for username in ["Alice", "alice", "ALICE", "aLiCe"] {
        let body = json!({"username": username, "password": PASSWORD});
        let refusal = gate.post("/v1/signup").json(&body).send().refused(409, "taken");
        assert_eq!(refusal["field"], json!("username"));
        let account = sign_in(&gate, username, PASSWORD).expect(200);
        assert_eq!(account["payload"]["username"], json!("Alice"), "the username as it was chosen");
    }
    assert_eq!(row_counts(&gate)[0], 1);
}

#[test]
fn sign_up__closed_by_the_operator() {
    let gate = Gate::with(&[("SIGNUP", "closed")]);
    let body = json!({"username": "alice", "password": PASSWORD});
    gate.post("/v1/signup").json(&body).send().refused(403, "signup_closed");
    assert_eq!(row_counts(&gate)[0], 0);
    passwords::insert_user(&gate, "alice", passwords::hash(PASSWORD, 4));
    sign_in(&gate, "alice", PASSWORD).expect(200);
}

#[test]
fn user_suspension__revokes_earlier_tokens_for_good() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    set_suspended(&gate, "alice", true);
    let suspended = sign_in(&gate, "alice", PASSWORD);
    suspended.refused(401, "credentials");
    exchange(&gate, &domain).refused(401, "suspended");
    for token in [&alice.token, &access] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }

    set_suspended(&gate, "alice", false);
    let again = sign_in(&gate, "alice", PASSWORD).expect(200);
    gate.get("/v1/me").token(again["token"].as_str().expect("a token")).send().expect(200);
    let fresh = exchange(&gate, &domain).expect(200);
    gate.get("/v1/test").token(fresh["token"].as_str().expect("a token")).send().expect(200);
    for token in [&alice.token, &access] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
}

#[test]
fn account_deletion__removes_all_rows_of_the_account_and_no_others() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    let (bob, bobs, _) = gate.tenant("bob");
    for token in [&alice.token, &bob.token] {
        gate.post("/v1/posts").token(token).json(&json!({"content": "#one #two"})).send().expect(201);
    }

    let wrong = [json!({}), json!({"password": 1}), json!({"password": PASSWORD, "force": true})];
    for body in &wrong {
        gate.delete("/v1/me").token(&alice.token).json(body).send().refused(400, "invalid_field");
    }
    for password in ["", "wrong", &"x".repeat(257)] {
        delete_account(&gate, &alice, password).refused(403, "credentials");
    }
    delete_account(&gate, &User { token: access.clone(), id: alice.id }, PASSWORD).refused(403, "kind");
    assert_eq!(row_counts(&gate), [2, 2, 2, 2, 4]);

    delete_account(&gate, &alice, PASSWORD).expect(200);
    for token in [&alice.token, &access] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    exchange(&gate, &domain).refused(401, "unknown_client");
    sign_in(&gate, "alice", PASSWORD).refused(401, "credentials");
    gate.app.remove_leftovers().expect("the database answers");
    assert_eq!(row_counts(&gate), [1, 1, 1, 1, 2], "the posts of bob remain");
    exchange(&gate, &bobs).expect(200);

    // Tokens and other servers may know the account by its name. The name is never given to another account.
    for name in ["alice", "ALICE"] {
        let body = json!({"username": name, "password": PASSWORD});
        assert_eq!(gate.post("/v1/signup").json(&body).send().refused(409, "taken")["field"], "username");
    }
    assert_ne!(gate.sign_up("alice2").id, alice.id);
    gate.get("/v1/me").token(&alice.token).send().refused(401, "revoked");
    exchange(&gate, &domain).refused(401, "unknown_client");
}
