//! Usernames and nicks: letters of any script, but no name that looks like another one or like an id.

use crate::accounts::sign_in;
use crate::binary::{gatebird, run};
use crate::harness::{Gate, PASSWORD, Reply, Value, json, parts};

fn sign_up(gate: &Gate, username: &str, nick: &str) -> Reply {
    let body = json!({"username": username, "password": PASSWORD, "nick": nick});
    gate.post("/v1/signup").json(&body).send()
}

fn token(answer: &Value) -> &str {
    answer["token"].as_str().expect("a token")
}

#[test]
fn username__letters_of_one_script() {
    let gate = Gate::start();
    let decomposed = "\u{1112}\u{1169}\u{11bc}\u{1100}\u{1175}\u{11af}\u{1103}\u{1169}\u{11bc}";
    for (username, stored, other_spellings) in [
        ("홍길동", "홍길동", [decomposed, "홍길동"]),
        ("Ünal.Çelik", "Ünal.Çelik", ["ünal.çelik", "u\u{308}NAL.c\u{327}elik"]),
        ("Алиса_7", "Алиса_7", ["АЛИСА_7", "алиса_7"]),
        ("ΟΔΥΣΣΕΥΣ", "ΟΔΥΣΣΕΥΣ", ["οδυσσευς", "οδυσσευσ"]),
        ("やまだ太郎", "やまだ太郎", ["やまだ太郎", "やまだ太郎"]),
        ("हिन्दी-नाम", "हिन्दी-नाम", ["हिन्दी-नाम", "हिन्दी-नाम"]),
        ("עברית", "עברית", ["עברית", "עברית"]),
        ("cafe\u{301}", "caf\u{e9}", ["CAFÉ", "cafe\u{301}"]),
    ] {
        let answer = sign_up(&gate, username, "Nick").expect(201);
        assert_eq!(answer["payload"]["username"], json!(stored));
        assert_eq!(parts(token(&answer)).1["username"], json!(stored));
        for spelling in other_spellings {
            let signed_in = sign_in(&gate, spelling, PASSWORD).expect(200);
            assert_eq!(signed_in["payload"]["username"], json!(stored), "{spelling}");
            assert_eq!(sign_up(&gate, spelling, "Nick").refused(409, "taken")["field"], json!("username"));
        }
        sign_in(&gate, stored, "wrong password").refused(401, "credentials");
    }
}

/// Every refusal names the fault.
#[test]
fn username__refused() {
    let gate = Gate::start();
    for (username, says) in [
        ("ab", "3 to 40 characters"),
        ("김철", "3 to 40 characters"),
        ("a b c", "letters, digits"),
        ("abc\tdef", "letters, digits"),
        ("\u{ff55}\u{ff53}\u{ff52}_1", "letters, digits"),
        ("usr_\u{ff11}", "letters, digits"),
        ("bob\u{ff20}example.com", "letters, digits"),
        ("ali\u{200b}ce", "letters, digits"),
        ("ali\u{200d}ce", "letters, digits"),
        ("ali\u{ad}ce", "letters, digits"),
        ("ali\u{202e}ce", "letters, digits"),
        ("ali\u{2066}ce", "letters, digits"),
        ("ali\u{fe0f}ce", "letters, digits"),
        ("\u{3164}\u{3164}\u{3164}", "letters, digits"),
        ("𝐚𝐥𝐢𝐜𝐞", "letters, digits"),
        ("ⓐⓛⓘⓒⓔ", "letters, digits"),
        ("ali🐦ce", "letters, digits"),
        ("\u{301}abc", "letters, digits"),
        ("a.\u{301}bc", "letters, digits"),
        ("\u{430}lice", "one script"),
        ("alice홍", "one script"),
        ("usr_\u{661}", "one script"),
        ("\u{440}\u{430}\u{443}\u{440}\u{430}\u{4cf}", "looks like"),
        ("\u{410}\u{412}\u{421}", "looks like"),
        ("\u{131}\u{131}\u{131}", "looks like"),
        ("usr_7", "id"),
        ("USR_07", "id"),
        ("usr_l0", "id"),
    ] {
        let refusal = sign_up(&gate, username, "Nick").refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("username"));
        let message = refusal["message"].as_str().expect("a sentence");
        assert!(message.contains(says), "{username:?}: {message}");
        sign_in(&gate, username, PASSWORD).refused(401, "credentials");
    }
}

#[test]
fn username__confusable_with_another() {
    let gate = Gate::start();
    sign_up(&gate, "\u{30ed}\u{30ed}\u{30ed}", "Katakana").expect(201);
    sign_up(&gate, "\u{53e3}\u{53e3}\u{53e3}", "Han").refused(409, "taken");
    for one in ["user1", "userl", "rnary", "mary"] {
        sign_up(&gate, one, "Nick").expect(201);
    }
}

#[test]
fn nick__invisible_characters_are_removed() {
    let gate = Gate::start();
    for (number, (nick, shown)) in [
        ("Ada\u{200b} \u{202e}Lovelace\u{2069}", Some("Ada Lovelace")),
        ("\u{ff21}da\u{3000}\u{ff08}1\u{ff09}", Some("Ada (1)")),
        ("u\u{ad}sr\u{200d}_1\u{e0041}", None),
        ("usr_\u{ff11}", None),
        ("\u{1d42e}sr_1", None),
        ("u\u{455}r_1", None),
        ("usr_\u{661}", None),
        ("USR_l0", None),
        ("bob\u{ff20}example.com", None),
        ("bob\u{fe6b}example.com", None),
        ("홍 길동 & Söhne", Some("홍 길동 & Söhne")),
        ("🐦🦜", Some("🐦🦜")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = sign_up(&gate, &format!("user-{number}"), nick).expect(201);
        let public_id = format!("usr_{}", answer["payload"]["id"]);
        let claimed = parts(token(&answer)).1["nick"].clone();
        assert_eq!(claimed, json!(shown.unwrap_or(&public_id)), "{nick:?}");
        if let Some(shown) = shown {
            assert_eq!(answer["payload"]["nick"], json!(shown));
        }
    }
}

#[test]
fn nick__refused() {
    let gate = Gate::start();
    let long = "x".repeat(41);
    let grows = "\u{fdfa}".repeat(3);
    for (nick, says) in [
        ("", "1 to 40"),
        (&*long, "1 to 40"),
        (&*grows, "1 to 40"),
        ("\u{200b}\u{feff}", "1 to 40"),
        ("\u{2800}", "1 to 40"),
        (" \u{3164}\u{a0}", "1 to 40"),
        ("a\tb", "control character"),
        ("a\u{85}b", "control character"),
        ("a\u{2028}b", "control character"),
        ("a\u{e000}b", "control character"),
        ("a\u{378}b", "control character"),
    ] {
        let refusal = sign_up(&gate, "newcomer", nick).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("nick"));
        let message = refusal["message"].as_str().expect("a sentence");
        assert!(message.contains(says), "{nick:?}: {message}");
    }
}

/// Names that are in the database from before these rules.
#[test]
fn nick__of_an_earlier_version() {
    let gate = Gate::start();
    let id = gate.sign_up("mallory").id;
    let nick = "usr_\u{ff11}";
    gate.execute(&format!("UPDATE users SET nick = '{nick}' WHERE id = {id}"));
    let gate = gate.restart(&[]);
    let answer = sign_in(&gate, "mallory", PASSWORD).expect(200);
    assert_eq!(parts(token(&answer)).1["nick"], json!(format!("usr_{id}")));
}

/// A person who knew the account by its name must not meet another user under it.
#[test]
fn deleted_username__stays_taken() {
    let gate = Gate::start();
    for (username, spellings) in
        [("alice", ["alice", "ALICE"]), ("홍길동", ["홍길동", "홍길동"]), ("Алиса", ["Алиса", "АЛИСА"])]
    {
        let user = gate.sign_up(username);
        gate.delete("/v1/me").token(&user.token).json(&json!({"password": PASSWORD})).send().expect(200);
        gate.app.remove_leftovers().expect("the database answers");
        for spelling in spellings {
            sign_up(&gate, spelling, "Nick").refused(409, "taken");
            let added = run(&mut gatebird(&gate.database, &["user", "add", spelling], &[]), PASSWORD);
            assert_eq!(added.code, Some(64), "{added:?}");
        }
    }
    // For good: after a restart and a hundred days, too.
    gate.clock.advance(100 * 86_400);
    let gate = gate.restart(&[]);
    gate.app.maintain().expect("the database answers");
    sign_up(&gate, "alice", "Nick").refused(409, "taken");
}
