//! `gatebird key` of the real binary, beside a running server.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gatebird::config::Algorithm;
use gatebird::db::signing_key::{self, SigningKey};
use gatebird::token::keyring::Key;

use super::{RETENTION, names, sorted};
use crate::binary::{Child, Outcome, PROMISED, gatebird, run, text, within};
use crate::forgery::kid;
use crate::forgery::signer::seal;
use crate::harness::{Database, JWT_SECRET, Value, json};

const ES256: &[(&str, &str)] = &[("JWT_ALGORITHM", "ES256")];

fn cli(database: &Database, args: &[&str]) -> Outcome {
    run(&mut gatebird(database, &[&["key"], args].concat(), ES256), "")
}

/// Checks that the output for a key has exactly these members.
#[track_caller]
fn assert_key_output(value: &Value, kid: &str, phase: &str) -> (i64, i64, Option<i64>) {
    let number = |member: &str| value[member].as_i64();
    let (made, from) = (number("createdAt").expect("a number"), number("signsFrom").expect("a number"));
    let until = number("verifiesUntil");
    let expected = json!({
        "kid": kid,
        "algorithm": "ES256",
        "phase": phase,
        "createdAt": made,
        "signsFrom": from,
        "verifiesUntil": until,
    });
    assert_eq!(*value, expected);
    (made, from, until)
}

#[test]
fn key_commands__beside_a_running_server() {
    let database = Database::new();
    let child = Child::start(&database, ES256);
    let client = &child.client;
    let (_, domain, token) = client.tenant("alice");
    let exchange = || text(&client.exchange(&domain.secret).expect(200)["token"]);
    let published = || names(&client.get("/.well-known/jwks.json", "").expect(200));
    let first = kid(&token);
    let listed = cli(&database, &["list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let (made, from, until) = assert_key_output(&listed[0], &first, "signing");
    assert_eq!((made, until), (from, None), "the first key signs as soon as it exists");
    assert_eq!(cli(&database, &["list"]).good(), format!("{first} ES256 signs\n"));

    let next = cli(&database, &["rotate", "--json"]).json();
    let second = text(&next["kid"]);
    let (made, from, until) = assert_key_output(&next, &second, "next");
    assert_eq!((from - made, until), (900, None));
    within(PROMISED, "the next key is published", || published() == sorted(&[&first, &second]));
    assert_eq!(kid(&exchange()), first, "it does not sign yet");
    let again = cli(&database, &["rotate"]).good();
    assert!(again.starts_with(&format!("{second} ES256 signs in ")) && again.lines().count() == 1, "{again}");
    let listed = cli(&database, &["list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_key_output(&listed[0], &first, "signing");
    assert_key_output(&listed[1], &second, "next");

    let now = cli(&database, &["rotate", "--now", "--json"]).json();
    let third = text(&now["kid"]);
    let (made, from, _) = assert_key_output(&now, &third, "next");
    assert_eq!(from - made, 3, "as soon as every node knows it");
    within(PROMISED, "it is published", || published() == sorted(&[&first, &second, &third]));
    within(2 * PROMISED, "it signs", || kid(&exchange()) == third);
    client.get("/v1/test", &token).expect(200);
    let listed = cli(&database, &["list", "--json"]).json();
    assert_eq!(assert_key_output(&listed[0], &first, "verifying").2, Some(from + RETENTION));
    assert_key_output(&listed[1], &third, "signing");
    assert_key_output(&listed[2], &second, "next");
    let lines = cli(&database, &["list"]).good();
    let does: Vec<&str> = lines.lines().map(|line| line.split(' ').nth(2).expect("a word")).collect();
    assert_eq!(does, ["verifies", "signs", "signs"], "{lines}");

    assert_eq!(cli(&database, &["retire", &first, "--json"]).json(), json!({"kid": first, "retired": true}));
    within(PROMISED, "its tokens end", || client.get("/v1/test", &token).status == 401);
    client.get("/v1/test", &token).refused(401, "invalid");
    assert_eq!(published(), sorted(&[&second, &third]));
    // The key that signs is retired: another takes over.
    let token = exchange();
    assert_eq!(cli(&database, &["retire", &third]).good(), format!("{third} is retired\n"));
    within(PROMISED, "its tokens end", || client.get("/v1/test", &token).status == 401);
    let fourth = kid(&exchange());
    assert!(![&first, &third].contains(&&fourth));
    client.get("/v1/test", &exchange()).expect(200);
    child.kill();
    // All of that is in the database, not in the process.
    let child = Child::start(&database, ES256);
    assert_eq!(kid(&text(&child.client.exchange(&domain.secret).expect(200)["token"])), fourth);
}

#[test]
fn key_commands__usage_errors() {
    let database = Database::new();
    let child = Child::start(&database, ES256);
    let (_, _, token) = child.client.tenant("alice");
    let unknown = "0".repeat(43);
    let hyphens = format!("-h{}", "7".repeat(41));
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["rotate", "now"], "now"),
        (&["rotate", "--later"], "--later"),
        (&["list", "all"], "all"),
        (&["retire"], "KID"),
        (&["retire", &unknown], &unknown),
        (&["retire", &hyphens], &hyphens),
        (&["retire", "--", &hyphens], &hyphens),
        (&["retire", "--json77777777777777777777777777777777777777"], "--json77"),
        (&["retire", ""], "there is no key"),
        (&["retire", "' OR '1'='1"], "there is no key"),
        (&["retire", "%"], "there is no key"),
        (&["retire", &unknown, &unknown], &unknown),
    ];
    for (args, says) in cases {
        let outcome = cli(&database, args);
        assert_eq!(outcome.code, Some(64), "{args:?} {outcome:?}");
        assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{args:?} {outcome:?}");
    }
    child.client.get("/v1/test", &token).expect(200);
    assert_eq!(cli(&database, &["list", "--json"]).json().as_array().map(Vec::len), Some(1));
}

#[test]
fn key_rotate__hs256_is_a_usage_error() {
    let database = Database::new();
    // A key of an earlier setting.
    let child = Child::start(&database, ES256);
    let (_, domain, token) = child.client.tenant("alice");
    child.kill();
    let hs256 = |args: &[&str]| run(&mut gatebird(&database, args, &[]), "");
    let child = Child::start(&database, &[]);
    for args in [&["key", "rotate"][..], &["key", "rotate", "--now"], &["key", "rotate", "--json"]] {
        let outcome = hs256(args);
        assert_eq!(outcome.code, Some(64), "{outcome:?}");
        assert!(outcome.stderr.contains("JWT_SECRET_PREVIOUS") && outcome.stdout.is_empty(), "{outcome:?}");
    }
    let listed = hs256(&["key", "list", "--json"]).json();
    assert_eq!((&listed[0]["kid"], &listed[0]["phase"]), (&json!(kid(&token)), &json!("verifying")));
    child.client.get("/v1/test", &token).expect(200);
    hs256(&["key", "retire", &kid(&token)]).good();
    within(PROMISED, "its tokens end", || child.client.get("/v1/test", &token).status == 401);
    assert_eq!(hs256(&["key", "list", "--json"]).json(), json!([]), "HS256 needs no stored key");
    let token = text(&child.client.exchange(&domain.secret).expect(200)["token"]);
    child.client.get("/v1/test", &token).expect(200);
}

/// Otherwise a key that the servers cannot use or do not expect would become the next one.
#[test]
fn key_commands__settings_mismatch_changes_nothing() {
    const NEW: &str = "T9vX2mK7pQ4sW8zB5nR1cF6yH3jL0dG-new-key";
    let (another, look_back) = (("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", JWT_SECRET));
    let database = Database::new();
    let child = Child::start(&database, ES256);
    let (_, _, token) = child.client.tenant("alice");
    let own = kid(&token);
    let db = database.open();
    let stored_keys = || {
        let rows = db.read_now(|conn| Ok(signing_key::list(conn)?)).expect("the database answers");
        rows.into_iter().map(|row| (row.kid, row.sealed, row.signs_from)).collect::<Vec<_>>()
    };
    let before = stored_keys();
    let (rotate, now, retire): (&[&str], &[&str], &[&str]) =
        (&["key", "rotate"], &["key", "rotate", "--now"], &["key", "retire", &own]);
    let (rs256, hs256) = (("JWT_ALGORITHM", "RS256"), ("JWT_ALGORITHM", "HS256"));
    for (args, settings, says) in [
        (rotate, &[rs256][..], "JWT_ALGORITHM"),
        (now, &[rs256], "JWT_ALGORITHM"),
        (retire, &[rs256], "JWT_ALGORITHM"),
        (retire, &[hs256], "JWT_ALGORITHM"),
        (rotate, &[ES256[0], another], "JWT_SECRET_PREVIOUS"),
        (now, &[ES256[0], another], "JWT_SECRET_PREVIOUS"),
        (retire, &[ES256[0], another], "--lost"),
        // It could open the keys, but the servers could not open a key that it seals.
        (rotate, &[ES256[0], another, look_back], "sealed with JWT_SECRET_PREVIOUS"),
        (now, &[ES256[0], another, look_back], "sealed with JWT_SECRET_PREVIOUS"),
        (retire, &[ES256[0], another, look_back], "sealed with JWT_SECRET_PREVIOUS"),
    ] {
        let outcome = run(&mut gatebird(&database, args, settings), "");
        assert_eq!(outcome.code, Some(78), "{args:?} {settings:?} {outcome:?}");
        assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{args:?} {settings:?} {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        assert!(!outcome.stderr.contains(NEW), "{outcome:?}");
        assert_eq!(stored_keys(), before, "{args:?} {settings:?}");
    }
    child.client.get("/v1/test", &token).expect(200);
    // Servers that are about to follow a change of the secret have the new one as their previous one.
    let about_to = [ES256[0], ("JWT_SECRET_PREVIOUS", NEW)];
    let next = run(&mut gatebird(&database, &["key", "rotate", "--json"], &about_to), "").json();
    let published = || names(&child.client.get("/.well-known/jwks.json", "").expect(200));
    within(PROMISED, "the servers can open it", || published() == sorted(&[&own, &text(&next["kid"])]));
}

/// One thumbprint in 64 looks like an option.
#[test]
fn key_retire__kid_that_begins_with_a_hyphen() {
    let database = Database::new();
    let child = Child::start(&database, ES256);
    let db = database.open();
    let hyphenated = || {
        loop {
            let (key, private) = Key::generate(Algorithm::Es256).expect("a key");
            if key.kid().starts_with('-') {
                let (kid, sealed) = (key.kid().to_owned(), seal().seal(key.kid(), &private));
                let row = SigningKey {
                    kid,
                    algorithm: Algorithm::Es256,
                    sealed,
                    created_at: 1,
                    signs_from: i64::MAX / 2,
                    signs_until: None,
                };
                db.write_now(|conn| Ok(signing_key::insert(conn, &row)?)).expect("the database answers");
                return row.kid;
            }
        }
    };
    let ways: [(&[&str], &[&str]); 4] = [(&[], &[]), (&[], &["--json"]), (&["--json"], &[]), (&["--"], &[])];
    let kids = ways.map(|_| hyphenated());
    let published = || names(&child.client.get("/.well-known/jwks.json", "").expect(200));
    within(PROMISED, "they are published", || kids.iter().all(|kid| published().contains(kid)));
    for ((before, after), kid) in ways.into_iter().zip(&kids) {
        let args = [&["retire"], before, &[kid.as_str()], after].concat();
        let output = cli(&database, &args).good();
        assert!(output.contains(kid), "{args:?} {output}");
        assert_eq!(output.starts_with('{'), args.contains(&"--json"), "{args:?} {output}");
    }
    within(PROMISED, "the keys are deleted", || published().len() == 1);
}

/// For verifiers that read a file instead of a JWKS.
#[test]
fn key_list__public_keys_in_pem() {
    for algorithm in Algorithm::PUBLIC {
        let database = Database::new();
        let settings = [("JWT_ALGORITHM", algorithm.name())];
        let child = Child::start(&database, &settings);
        let (_, _, token) = child.client.tenant("alice");
        let cli = |args: &[&str]| run(&mut gatebird(&database, &[&["key"], args].concat(), &settings), "");
        cli(&["rotate"]).good();
        let listed = cli(&["list", "--pem", "--json"]).json();
        let keys = listed.as_array().expect("keys");
        assert_eq!((keys.len(), &keys[0]["kid"], &keys[0]["phase"]), (2, &json!(kid(&token)), &json!("signing")));
        let printed = cli(&["list", "--pem"]).good();
        let pems: Vec<String> = keys.iter().map(|key| text(&key["pem"])).collect();
        assert_eq!(printed, pems.concat(), "the PEM of every key, and nothing else");
        for (key, pem) in keys.iter().zip(&pems) {
            assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.ends_with("\n-----END PUBLIC KEY-----\n"));
            assert!(pem.lines().all(|line| line.len() <= 64), "{pem}");
            let published = || {
                let set = child.client.get("/.well-known/jwks.json", "").expect(200);
                set["keys"].as_array().expect("keys").iter().find(|jwk| jwk["kid"] == key["kid"]).cloned()
            };
            within(PROMISED, "it is published", || published().is_some());
            let jwk = published().expect("it is published");
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let der = STANDARD.decode(body).expect("base64");
            // The key's own bytes are at the end of the DER, for RSA before the exponent.
            let (member, after) = match algorithm {
                Algorithm::Es256 => ("y", 0),
                Algorithm::EdDsa => ("x", 0),
                _ => ("n", 5),
            };
            let bytes = URL_SAFE_NO_PAD.decode(text(&jwk[member])).expect("base64url");
            assert!(der[..der.len() - after].ends_with(&bytes), "{algorithm:?}");
        }
        child.kill();
    }
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let outcome = run(&mut gatebird(&database, &["key", "list", "--pem"], &[]), "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(64), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("JWT_ALGORITHM"), "{outcome:?}");
    child.kill();
}
