//! The life of the kept keys: made, followed by others, retired. What changes them runs in a transaction that has the lock on
//! the revision, so nodes that start or rotate at once agree on one key.

use std::fmt;

use diesel::QueryResult;
use serde_json::json;

use crate::config::{Algorithm, Config, HmacSecret};
use crate::db::audit::{Actor, Audited};
use crate::db::signing_key::{self, SigningKey};
use crate::db::{Conn, Db, identity, revision, user};
use crate::error::{Error, Result};
use crate::id::Stamp;
use crate::token::keyring::{KNOWN_TO_ALL, Key, Keyring, PLANNED_WITHIN, PUBLISHED_AHEAD, Phase, phases};
use crate::token::seal::{Opened, Seal};

/// The keyring of the present epoch, without stored keys. Where the database was restored or copied, a new epoch begins.
///
/// # Errors
/// When the database does not answer.
pub fn keyring(db: &Db, secret: &HmacSecret, config: &Config, now: i64) -> Result<Keyring> {
    let epoch = |conn: &mut Conn| Ok(revision::counter(conn)?.epoch);
    let keyring = Keyring::new(secret, config, db.read_now(epoch)?);
    if !db.was_restored()? {
        return Ok(keyring);
    }
    log::warn!("the database was restored or copied since a server used it: every earlier token is refused");
    let cause = (Actor::SERVER, "restored");
    db.change_now(|conn| renew_epoch(conn, &keyring, cause, None, now)?.record(conn), |_| Ok(()))?;
    Ok(keyring.in_epoch(db.read_now(epoch)?))
}

/// A key that nobody has yet. Made before the transaction, because one of RSA takes up to a second, for which every other
/// change would wait; dropped where none is needed after all.
pub struct Spare {
    key: Key,
    private: Vec<u8>,
}

impl Spare {
    /// `None` with HS256, which has no kept keys.
    pub fn new(keyring: &Keyring) -> Option<Spare> {
        Key::generate(keyring.algorithm()).map(|(key, private)| Spare { key, private })
    }
}

/// What speaks against touching the kept keys with these settings.
#[derive(Debug)]
pub enum Objection {
    /// Neither JWT_SECRET nor JWT_SECRET_PREVIOUS opens that key.
    Sealed(String),
    /// JWT_SECRET_PREVIOUS opens that key, and JWT_SECRET does not yet.
    SealedByPrevious(String),
    /// The keys in use are of that algorithm, and JWT_ALGORITHM is another.
    Algorithm(Algorithm),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Sealed(kid) => write!(
                f,
                "the signing key {kid} in the database is sealed with another JWT_SECRET; set JWT_SECRET_PREVIOUS to that \
                 one, or, if that is lost, give the key up with all tokens of it: gatebird key retire --lost {kid}"
            ),
            Objection::SealedByPrevious(kid) => write!(
                f,
                "the signing key {kid} in the database is sealed with JWT_SECRET_PREVIOUS; give this command the JWT_SECRET \
                 that the servers have, or start one with the new one first"
            ),
            Objection::Algorithm(used) => write!(
                f,
                "the servers sign with {}; give this command the same JWT_ALGORITHM that they have",
                used.name()
            ),
        }
    }
}

/// Does that to the kept keys, and tells of each one that is made, deleted or given another term by it.
///
/// # Errors
/// As `work`.
pub fn telling<T>(
    conn: &mut Conn,
    actor: Actor,
    now: i64,
    work: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<Audited<T>> {
    let before = signing_key::list(conn)?;
    let value = work(conn)?;
    let after = signing_key::list(conn)?;
    let term = |key: &SigningKey| json!({ "signsFrom": key.signs_from, "signsUntil": key.signs_until });
    let mut entries = Vec::new();
    for key in &after {
        let action = match before.iter().find(|former| former.kid == key.kid) {
            None => "key.made",
            Some(former) if former.term() != key.term() => "key.changed",
            Some(_) => continue,
        };
        entries.push(actor.did(action, &key.kid, None, now).with(term(key)));
    }
    let gone = before.iter().filter(|former| after.iter().all(|key| key.kid != former.kid));
    entries.extend(gone.map(|key| actor.did("key.deleted", &key.kid, None, now)));
    Ok(Audited::several(value, entries))
}

/// All keys by name, opened.
fn open_all(conn: &mut Conn, seal: &Seal) -> Result<std::result::Result<Vec<(String, Opened)>, Objection>> {
    let open = |row: SigningKey| {
        let usable = |private: &[u8]| Key::load(row.algorithm, private).is_some_and(|key| key.kid() == row.kid);
        match seal.open(&row.kid, &row.sealed).filter(|opened| usable(&opened.private)) {
            Some(opened) => Ok((row.kid, opened)),
            None => Err(Objection::Sealed(row.kid)),
        }
    };
    Ok(signing_key::list(conn)?.into_iter().map(open).collect())
}

/// Whether the keys in use are of the algorithm that this process was told.
///
/// # Errors
/// When the database does not answer; inside, when they are not.
pub fn same_algorithm(conn: &mut Conn, keyring: &Keyring) -> Result<std::result::Result<(), Objection>> {
    let other = last_open(conn, i64::MAX - PLANNED_WITHIN)?
        .map(|last| last.algorithm)
        .filter(|used| *used != keyring.algorithm());
    Ok(other.map_or(Ok(()), |used| Err(Objection::Algorithm(used))))
}

/// Whether a key that this process makes is one that the servers can use: they would be able to open it, and it is of
/// their algorithm.
///
/// # Errors
/// When the database does not answer; inside, when it would not be.
pub fn same_settings(conn: &mut Conn, keyring: &Keyring) -> Result<std::result::Result<(), Objection>> {
    let opened = match open_all(conn, keyring.seal())? {
        Ok(opened) => opened,
        Err(objection) => return Ok(Err(objection)),
    };
    // The servers may not have heard of the new secret.
    match opened.into_iter().find(|(_, opened)| opened.by_previous) {
        Some((kid, _)) => Ok(Err(Objection::SealedByPrevious(kid))),
        None => same_algorithm(conn, keyring),
    }
}

/// Whether there is no key of JWT_ALGORITHM to go on with, so that [`settle`] will need one.
///
/// # Errors
/// When the database does not answer.
pub fn lacks_one(conn: &mut Conn, keyring: &Keyring, now: i64) -> Result<bool> {
    Ok(last_open(conn, now)?.is_none_or(|last| last.algorithm != keyring.algorithm()))
}

/// Brings the kept keys in line with JWT_ALGORITHM and JWT_SECRET, when a node starts.
///
/// # Errors
/// When the database does not answer; inside, when a key cannot be opened.
pub fn settle(
    conn: &mut Conn,
    keyring: &Keyring,
    spare: Option<Spare>,
    now: i64,
) -> Result<std::result::Result<(), Objection>> {
    let opened = match open_all(conn, keyring.seal())? {
        Ok(opened) => opened,
        Err(objection) => return Ok(Err(objection)),
    };
    for (kid, Opened { private, .. }) in opened.iter().filter(|(_, opened)| opened.by_previous) {
        signing_key::set_sealed(conn, kid, &keyring.seal().seal(kid, private))?;
    }
    if keyring.algorithm() == Algorithm::Hs256 {
        signing_key::end_signing(conn, now)?;
        return Ok(Ok(()));
    }
    if last_open(conn, now)?.is_some_and(|last| last.algorithm != keyring.algorithm()) {
        // Of another algorithm and not in use yet: nobody will miss it.
        for row in signing_key::list(conn)?.iter().filter(|row| row.signs_from > now) {
            signing_key::delete(conn, &row.kid)?;
        }
    }
    let signs_from = match last_open(conn, now)? {
        Some(last) if last.algorithm == keyring.algorithm() => return Ok(Ok(())),
        // Verifiers have the old key's set for a while yet.
        Some(_) => now + PUBLISHED_AHEAD,
        // Other nodes may be at work, which first have to hear of it; without users there is nobody to wait for.
        None if user::any(conn)? => now + KNOWN_TO_ALL,
        None => now,
    };
    // There is none only where another node has changed the keys since we looked.
    let spare = spare.or_else(|| Spare::new(keyring));
    make(conn, keyring, spare, signs_from, now)?;
    Ok(Ok(()))
}

/// Makes the key that follows. It signs once it has been published for long enough, or, `at_once`, as soon as our own nodes
/// know it. Where one is to follow already, that is it.
///
/// # Errors
/// When the database does not answer.
pub fn rotate(conn: &mut Conn, keyring: &Keyring, spare: Option<Spare>, at_once: bool, now: i64) -> Result<SigningKey> {
    match last_open(conn, now)? {
        Some(next) if next.signs_from > now && !at_once => Ok(next),
        Some(_) if !at_once => make(conn, keyring, spare, now + PUBLISHED_AHEAD, now),
        // Where there is none yet, nobody has the key set of an earlier one.
        _ => make(conn, keyring, spare, now + KNOWN_TO_ALL, now),
    }
}

/// Deletes a key, with which its tokens end. The one that follows takes over its term, and one is made where none follows:
/// so another signs at once, and neither an older key nor JWT_SECRET comes back. `false` when there is no such key.
///
/// # Errors
/// When the database does not answer.
pub fn retire(conn: &mut Conn, keyring: &Keyring, spare: Option<Spare>, kid: &str, now: i64) -> Result<bool> {
    let rows = signing_key::list(conn)?;
    let Some(index) = rows.iter().position(|row| row.kid == kid) else { return Ok(false) };
    signing_key::delete(conn, kid)?;
    let retired = &rows[index];
    if keyring.algorithm() == Algorithm::Hs256 || retired.signs_until.is_some() {
        return Ok(true);
    }
    match rows[index + 1..].iter().find(|row| row.signs_until.is_none()) {
        Some(next) => signing_key::set_signs_from(conn, &next.kid, retired.signs_from)?,
        None if retired.signs_from <= now => drop(make(conn, keyring, spare, retired.signs_from, now)?),
        None => {}
    }
    Ok(true)
}

/// Begins a new epoch, in which every earlier token is refused, and makes a key that signs at once. The stored keys need not
/// be opened for that. Where `known` is given, nothing is done unless it is still the present epoch. The value tells whether
/// a new epoch began.
///
/// # Errors
/// When the database does not answer.
pub fn renew_epoch(
    conn: &mut Conn,
    keyring: &Keyring,
    (actor, cause): (Actor, &str),
    known: Option<Stamp>,
    now: i64,
) -> Result<Audited<bool>> {
    let renewed = telling(conn, actor, now, |conn| {
        let renewed = identity::renew(conn, known)?;
        if let (true, Some(spare)) = (renewed, Spare::new(keyring)) {
            make(conn, keyring, Some(spare), now, now)?;
        }
        Ok(renewed)
    })?;
    let entry = actor.did("epoch.renewed", "tokens", None, now).with(json!({ "cause": cause }));
    Ok(renewed.and_if(|renewed| *renewed, entry))
}

/// Keeps the spare key as the next one when its time has come, `period` seconds after the present one began, and deletes
/// those that are over. Where there is no spare one, it is the next time's.
///
/// # Errors
/// When the database does not answer.
pub fn keep_up(conn: &mut Conn, keyring: &Keyring, spare: Option<Spare>, period: Option<i64>, now: i64) -> Result<()> {
    let rows = signing_key::list(conn)?;
    let terms: Vec<_> = rows.iter().map(SigningKey::term).collect();
    for (row, phase) in rows.iter().zip(phases(&terms, keyring.longest_life(), now)) {
        if phase == Phase::Over {
            signing_key::delete(conn, &row.kid)?;
        }
    }
    if let (Some(from), Some(_)) = (keyring.next_signs_from(&terms, period, now), &spare) {
        make(conn, keyring, spare, from, now)?;
    }
    Ok(())
}

fn make(conn: &mut Conn, keyring: &Keyring, spare: Option<Spare>, signs_from: i64, now: i64) -> Result<SigningKey> {
    let Spare { key, private } = spare.ok_or_else(|| Error::internal("HS256 has no kept keys"))?;
    let sealed = keyring.seal().seal(key.kid(), &private);
    // A second is one key's: of two with the same one, nobody could say which followed the other.
    let taken: Vec<i64> = signing_key::list(conn)?.iter().map(|row| row.signs_from).collect();
    let signs_from = (signs_from..).find(|second| !taken.contains(second)).expect("there are fewer keys than seconds");
    let row = SigningKey {
        kid: key.kid().to_owned(),
        algorithm: key.algorithm(),
        sealed,
        created_at: now,
        signs_from,
        signs_until: None,
    };
    signing_key::insert(conn, &row)?;
    Ok(row)
}

/// The last of those that sign or will, but for those that a wrong clock has put into the far future.
fn last_open(conn: &mut Conn, now: i64) -> QueryResult<Option<SigningKey>> {
    let open = |row: &SigningKey| row.signs_until.is_none() && row.signs_from <= now + PLANNED_WITHIN;
    Ok(signing_key::list(conn)?.into_iter().rfind(open))
}
