//! Private keys at rest: worthless without JWT_SECRET, and not exchangeable.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use diesel::prelude::*;
use gatebird::config::Algorithm;
use gatebird::db::signing_key::{self, SigningKey};
use gatebird::db::{Conn, schema};
use gatebird::error::Result;

use super::{names, rotate};
use crate::binary::{Child, Outcome, gatebird, run, text, within};
use crate::forgery::signer::{private_key, stored_keys};
use crate::forgery::{Target, kid};
use crate::harness::{Database, JWT_SECRET};

const ANOTHER: &str = "T9vX2mK7pQ4sW8zB5nR1cF6yH3jL0dG-new-key";
const DEADLINE: Duration = Duration::from_secs(20);
const ES256: (&str, &str) = ("JWT_ALGORITHM", "ES256");

/// This many consecutive bytes of a key count as a part of it.
const PART: usize = 16;

/// Every part of a private key, in binary and in text notations.
fn parts(pkcs8: &[u8]) -> HashSet<[u8; PART]> {
    let hex: String = pkcs8.iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = [STANDARD_NO_PAD.encode(pkcs8), URL_SAFE_NO_PAD.encode(pkcs8)];
    let forms = [pkcs8.to_vec(), hex.to_uppercase().into(), hex.into(), base64.concat().into()];
    forms.iter().flat_map(|form| form.windows(PART)).map(|part| part.try_into().expect("its length")).collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let file = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.display().to_string(), fs::read(&path).expect("readable"))],
    };
    paths.flat_map(file).collect()
}

#[test]
fn sealed_key__no_private_key_is_stored_in_the_clear() {
    for algorithm in Algorithm::PUBLIC {
        let target = Target::of(algorithm);
        rotate(&target.gate, false);
        let rows = stored_keys(&target.gate);
        assert_eq!(rows.len(), 2);
        let secret: HashSet<_> = rows.iter().flat_map(|row| parts(&private_key(row))).collect();
        // On PostgreSQL the folder is empty, so only the rows are searched.
        let mut places = files(target.gate.database.dir.path());
        let is_there = |end: &str| places.iter().any(|(name, bytes)| name.ends_with(end) && bytes.len() > 4096);
        assert!(target.gate.database.is_postgres() || is_there("gatebird.db") && is_there("gatebird.db-wal"));
        places.extend(rows.into_iter().map(|row| (row.kid, row.sealed)));
        for (place, bytes) in places {
            let found = bytes.windows(PART).position(|window| secret.contains(window));
            assert_eq!(found, None, "{algorithm:?}: a part of a private key stands in {place}");
        }
    }
}

fn start(database: &Database, settings: &[(&str, &str)]) -> Child {
    Child::start(database, &[&[ES256], settings].concat())
}

fn refused(database: &Database, settings: &[(&str, &str)]) -> Outcome {
    let outcome = run(&mut gatebird(database, &[], &[&[ES256], settings].concat()), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    outcome
}

fn published(child: &Child) -> Vec<String> {
    names(&child.client.get("/.well-known/jwks.json", "").expect(200))
}

#[test]
fn sealed_key__resealed_after_a_change_of_jwt_secret() {
    let database = Database::new();
    let child = start(&database, &[]);
    let (_, domain, token) = child.client.tenant("alice");
    let rotated = run(&mut gatebird(&database, &["key", "rotate", "--json"], &[ES256]), "").json();
    let both = super::sorted(&[&kid(&token), &text(&rotated["kid"])]);
    child.kill();

    // Another secret opens no key, and changes nothing.
    let another = ("JWT_SECRET", ANOTHER);
    for settings in [&[another][..], &[another, ("JWT_SECRET_PREVIOUS", &format!("{ANOTHER}{ANOTHER}"))]] {
        let outcome = refused(&database, settings);
        assert!(both.iter().any(|kid| outcome.stderr.contains(kid)), "{outcome:?}");
        assert!(outcome.stderr.contains("JWT_SECRET_PREVIOUS"), "{outcome:?}");
        assert!(!outcome.stderr.contains(ANOTHER), "{outcome:?}");
    }
    let child = start(&database, &[]);
    child.client.get("/v1/test", &token).expect(200);
    child.kill();

    // With JWT_SECRET_PREVIOUS every key is sealed again.
    let child = start(&database, &[another, ("JWT_SECRET_PREVIOUS", JWT_SECRET)]);
    child.client.get("/v1/test", &token).expect(200);
    assert_eq!(published(&child), both);
    child.kill();
    let child = start(&database, &[another]);
    child.client.get("/v1/test", &token).expect(200);
    assert_eq!(published(&child), both);
    assert_eq!(kid(&text(&child.client.exchange(&domain.secret).expect(200)["token"])), kid(&token));
    child.kill();
    refused(&database, &[]);

    // After the loss of the secret, the keys can be given up, together with their tokens.
    for kid in &both {
        run(&mut gatebird(&database, &["key", "retire", "--lost", kid], &[ES256]), "").good();
    }
    let child = start(&database, &[]);
    child.client.get("/v1/test", &token).refused(401, "invalid");
    assert!(both.iter().all(|kid| !published(&child).contains(kid)));
    child.client.get("/v1/test", &text(&child.client.exchange(&domain.secret).expect(200)["token"])).expect(200);
}

/// Changes of the rows by a person who can write to the database but does not know JWT_SECRET.
type Tamper = (&'static str, fn(&mut Conn, &[SigningKey]) -> Result<()>);

#[test]
fn sealed_key__tampered_row_is_refused() {
    fn reseal(conn: &mut Conn, row: &SigningKey, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut sealed = row.sealed.clone();
        change(&mut sealed);
        Ok(signing_key::set_sealed(conn, &row.kid, &sealed)?)
    }
    let tampers: [Tamper; 8] = [
        ("two keys in each other's place", |conn, rows| {
            signing_key::set_sealed(conn, &rows[0].kid, &rows[1].sealed)?;
            Ok(signing_key::set_sealed(conn, &rows[1].kid, &rows[0].sealed)?)
        }),
        ("one key twice", |conn, rows| Ok(signing_key::set_sealed(conn, &rows[0].kid, &rows[1].sealed)?)),
        ("a bit of the nonce", |conn, rows| reseal(conn, &rows[0], |sealed| sealed[0] ^= 1)),
        ("a bit of the key", |conn, rows| reseal(conn, &rows[0], |sealed| sealed[40] ^= 1)),
        ("a bit of the tag", |conn, rows| reseal(conn, &rows[0], |sealed| *sealed.last_mut().expect("bytes") ^= 1)),
        ("cut off", |conn, rows| reseal(conn, &rows[0], |sealed| sealed.truncate(sealed.len() - 1))),
        ("empty", |conn, rows| reseal(conn, &rows[0], Vec::clear)),
        ("not sealed", |conn, rows| Ok(signing_key::set_sealed(conn, &rows[0].kid, &private_key(&rows[0]))?)),
    ];
    let database = Database::new();
    let child = start(&database, &[]);
    let (_, _, token) = child.client.tenant("alice");
    run(&mut gatebird(&database, &["key", "rotate"], &[ES256]), "").good();
    child.kill();
    let db = database.open();
    let rows = db.read_now(|conn| Ok(signing_key::list(conn)?)).expect("the database answers");
    assert_eq!(rows.len(), 2);
    for (what, tamper) in tampers {
        db.write_now(|conn| tamper(conn, &rows)).expect("the database answers");
        let outcome = refused(&database, &[]);
        assert!(rows.iter().any(|row| outcome.stderr.contains(&row.kid)), "{what}: {outcome:?}");
        let mend = |conn: &mut Conn| {
            Ok(rows.iter().try_for_each(|row| signing_key::set_sealed(conn, &row.kid, &row.sealed))?)
        };
        db.write_now(mend).expect("the database answers");
    }
    start(&database, &[]).client.get("/v1/test", &token).expect(200);
}

/// A node with a key that opens but cannot be used would sign with JWT_SECRET, which no other node verifies.
#[test]
fn sealed_key__stored_under_another_algorithm_is_refused() {
    let database = Database::new();
    start(&database, &[]).kill();
    let change = |algorithm: Algorithm| {
        let change = |conn: &mut Conn| {
            let change = diesel::update(schema::signing_keys::table);
            Ok(change.set(schema::signing_keys::algorithm.eq(algorithm)).execute(conn)?)
        };
        assert_eq!(database.open().write_now(change).expect("the database answers"), 1);
    };
    change(Algorithm::EdDsa);
    run(&mut gatebird(&database, &["key", "list"], &[ES256]), "").good();
    let mut child = Child::spawn(&mut gatebird(&database, &[], &[("JWT_ALGORITHM", "EdDSA")]), "");
    within(DEADLINE, "the server starts or refuses", || !child.is_running() || child.stdout().contains("listens on"));
    assert!(!child.is_running(), "it serves: {}", child.stderr());
    let outcome = child.wait(DEADLINE);
    assert!(matches!(outcome.code, Some(65 | 78)), "{outcome:?}");
    change(Algorithm::Es256);
    start(&database, &[]).kill();
}
