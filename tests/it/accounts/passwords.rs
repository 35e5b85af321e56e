//! Passwords: which are accepted, that every character counts, and what happens to older hashes.

use std::sync::Arc;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use gatebird::db::user::{self, NewUser};
use gatebird::password::{NewPassword, hash_now};

use super::{change, exchange, sign_in, stored};
use crate::harness::{Database, Gate, PASSWORD, Reply, json};

/// Inserts a user with that hash, as an export of another system has it.
pub fn insert_user(gate: &Gate, username: &str, password_hash: String) {
    let user = NewUser {
        username: username.into(),
        username_key: username.into(),
        nick: username.into(),
        password_hash,
        created_at: gate.clock.now(),
    };
    change(gate, move |conn| Ok(user::insert(conn, &user)?));
}

/// A hash of that password as the server makes it.
pub fn hash(password: &str, cost: u32) -> String {
    hash_now(&NewPassword::parse(password, &[]).expect("a strong password"), cost).expect("hashes")
}

fn sign_up(gate: &Gate, username: &str, nick: &str, password: &str) -> Reply {
    let body = json!({"username": username, "nick": nick, "password": password});
    gate.post("/v1/signup").json(&body).send()
}

fn change_password(gate: &Gate, token: &str, old: &str, new: &str) -> Reply {
    let body = json!({"oldPassword": old, "newPassword": new});
    gate.put("/v1/me/password").token(token).json(&body).send()
}

#[test]
fn password__weak_or_too_long_is_refused() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let seven = "xK9#mQ2";
    let too_long = format!("{}!", "correct horse 가 ".repeat(18));
    assert!(too_long.chars().count() > 256);
    for password in [
        "",
        "a",
        seven,
        &too_long,
        "password",
        "Password1",
        "12345678",
        "qwertyuiop",
        "letmein!",
        "11111111111111",
        "        ",
        "\0\0\0\0\0\0\0\0",
        "abcdefghijkl",
        "gatebird",
        "Gatebird1",
        "비비비비비비비비",
    ] {
        let refusal = sign_up(&gate, "newcomer", "New", password).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("password"), "{password:?}");
        let refusal = change_password(&gate, &alice.token, PASSWORD, password).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("newPassword"), "{password:?}");
    }
    sign_in(&gate, "alice", PASSWORD).expect(200);
}

/// Each of these passwords is strong for another user.
#[test]
fn password__guessable_from_the_account_is_refused() {
    let gate = Gate::start();
    for (number, (username, nick, password)) in CONTEXT.iter().enumerate() {
        let refusal = sign_up(&gate, username, nick, password).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("password"), "{password}");
        sign_up(&gate, &format!("stranger{number}"), "Stranger", password).expect(201);
        let owner = sign_up(&gate, username, nick, PASSWORD).expect(201)["token"].clone();
        let owner = owner.as_str().expect("a token");
        let refusal = change_password(&gate, owner, PASSWORD, password).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("newPassword"), "{password}");
    }
    // Strong except for the name of this product.
    for password in ["gatebird#7", "GateBird-9x", "zq.gatebird"] {
        let refusal = sign_up(&gate, "somebody", "Some", password).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("password"), "{password}");
    }
}

const CONTEXT: &[(&str, &str, &str)] = &[
    ("marigold-fenwick", "Mari", "marigold-fenwick"),
    ("zebulon.quartermain", "Zeb", "zebulon.quartermain1"),
    ("ordinary", "Hjortronsylt", "hjortronsylt9"),
    ("ada", "Xylophagous Quokka", "xylophagous quokka"),
];

#[test]
fn password__any_unicode_and_every_character_counts() {
    let gate = Gate::start();
    let hangul: String = (0..100).filter_map(|n| char::from_u32(0xac00 + n * 97 % 11172)).collect();
    let longest: String = (0..256).filter_map(|n| char::from_u32(0x4e00 + n * 131 % 20000)).collect();
    let other_end = |text: &str| text.chars().take(text.chars().count() - 1).chain(['끝']).collect::<String>();
    let first = |text: &str, count: usize| text.chars().take(count).collect::<String>();
    let with_nul = "correct horse\0battery staple";
    let cases = [
        // bcrypt reads only 72 bytes, which are 24 syllables.
        (&*hangul, vec![other_end(&hangul), first(&hangul, 24), first(&hangul, 99)]),
        (&longest, vec![other_end(&longest), first(&longest, 255), format!("{longest}가")]),
        (PASSWORD, vec![format!("{PASSWORD}\0"), format!("{PASSWORD}\0{PASSWORD}"), format!("{PASSWORD} ")]),
        (with_nul, vec!["correct horse".into(), with_nul.replace('\0', ""), with_nul.replace('\0', " ")]),
        ("🐦🦜🦢🦉 gate 🦚", vec!["🐦🦜🦢🦉 gate 🐓".into(), "🐦🦜🦢🦉".into(), String::new()]),
        (" leading and trailing ", vec!["leading and trailing".into()]),
        ("xK9#mQ2$v", vec!["XK9#MQ2$V".into(), "xK9#mQ2$".into()]),
    ];
    for (number, (set, others)) in cases.into_iter().enumerate() {
        let username = format!("user{number}");
        sign_up(&gate, &username, "Nick", set).expect(201);
        sign_in(&gate, &username, set).expect(200);
        for other in others {
            sign_in(&gate, &username, &other).refused(401, "credentials");
        }
    }
}

#[test]
fn password__composed_and_decomposed_spellings_are_equal() {
    let gate = Gate::start();
    let composed = "caf\u{e9} \u{d55c}\u{ad6d} \u{c5ec}\u{d589}";
    let decomposed =
        "cafe\u{301} \u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8} \u{110b}\u{1167}\u{1112}\u{1162}\u{11bc}";
    for (username, set, typed) in [("nfc", composed, decomposed), ("nfd", decomposed, composed)] {
        sign_up(&gate, username, "Nick", set).expect(201);
        for password in [set, typed] {
            sign_in(&gate, username, password).expect(200);
        }
        sign_in(&gate, username, "cafe \u{d55c}\u{ad6d} \u{c5ec}\u{d589}").refused(401, "credentials");
    }
}

#[test]
fn password_change__revokes_earlier_tokens_of_user_and_domains() {
    let gate = Gate::start();
    let (alice, domain, access) = gate.tenant("alice");
    let (bob, _, bobs_access) = gate.tenant("bob");
    let new = "paper lantern winter orchard";

    for wrong in ["", "wrong", &format!("{PASSWORD}\0"), &"x".repeat(257)] {
        change_password(&gate, &alice.token, wrong, new).refused(403, "credentials");
    }
    change_password(&gate, &access, PASSWORD, new).refused(403, "kind");
    gate.put("/v1/me/password")
        .token(&alice.token)
        .json(&json!({"newPassword": new}))
        .send()
        .refused(400, "invalid_field");
    gate.get("/v1/test").token(&alice.token).send().expect(200);

    change_password(&gate, &alice.token, PASSWORD, new).expect(200);
    for token in [&alice.token, &access] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    sign_in(&gate, "alice", PASSWORD).refused(401, "credentials");
    let signed_in = sign_in(&gate, "alice", new).expect(200);
    gate.get("/v1/me").token(signed_in["token"].as_str().expect("a token")).send().expect(200);
    let fresh = exchange(&gate, &domain).expect(200);
    gate.get("/v1/test").token(fresh["token"].as_str().expect("a token")).send().expect(200);
    for token in [&bob.token, &bobs_access] {
        gate.get("/v1/test").token(token).send().expect(200);
    }
}

#[test]
fn password_hash__of_another_system_or_cost_is_replaced_at_sign_in() {
    let gate = Gate::start();
    let plain = bcrypt::non_truncating_hash(PASSWORD, 4).expect("hashes");
    let current = hash(PASSWORD, 4);
    for (username, hash, is_replaced) in [
        ("plain-2b", plain.clone(), true),
        ("plain-2a", plain.replacen("$2b$", "$2a$", 1), true),
        ("plain-2y", plain.replacen("$2b$", "$2y$", 1), true),
        ("dearer", hash(PASSWORD, 5), true),
        ("current", current, false),
    ] {
        insert_user(&gate, username, hash.clone());
        for wrong in ["wrong password", &format!("{PASSWORD}\0"), ""] {
            sign_in(&gate, username, wrong).refused(401, "credentials");
        }
        assert_eq!(stored(&gate, username).password_hash, hash, "{username}: not after a wrong password");

        let first = sign_in(&gate, username, PASSWORD).expect(200);
        let after = stored(&gate, username).password_hash;
        assert!(after.starts_with("gb1$2b$04$"), "{username}: {after}");
        assert_eq!(after != hash, is_replaced, "{username}");
        sign_in(&gate, username, PASSWORD).expect(200);
        sign_in(&gate, username, &format!("{PASSWORD}\0{PASSWORD}")).refused(401, "credentials");
        // The password is the same, so nothing is revoked.
        gate.get("/v1/me").token(first["token"].as_str().expect("a token")).send().expect(200);
    }
}

/// Many users sign in at once after a migration, perhaps while an import holds the writer.
#[test]
fn sign_in__succeeds_while_the_writer_is_locked() {
    let gate = Gate::on(Arc::new(Database::sqlite()), &[]);
    let old = bcrypt::non_truncating_hash(PASSWORD, 4).expect("hashes");
    insert_user(&gate, "alice", old.clone());
    let mut other = SqliteConnection::establish(gate.database.url.trim_start_matches("sqlite://")).expect("a database");
    other.batch_execute("BEGIN IMMEDIATE").expect("the lock");
    sign_in(&gate, "alice", "wrong password").refused(401, "credentials");
    let answer = sign_in(&gate, "alice", PASSWORD).expect(200);
    gate.get("/v1/me").token(answer["token"].as_str().expect("a token")).send().expect(200);
    assert_eq!(stored(&gate, "alice").password_hash, old);

    other.batch_execute("COMMIT").expect("the lock is given back");
    sign_in(&gate, "alice", PASSWORD).expect(200);
    assert_ne!(stored(&gate, "alice").password_hash, old, "the next sign-in tries again");
}
