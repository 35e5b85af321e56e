//! The life cycle of stored signing keys: creation, rotation, retirement. Every function that changes keys must run in
//! a transaction that holds the lock on the revision, so that nodes that start or rotate at the same time agree on one
//! key.

use std::fmt;

use serde_json::json;

use crate::config::{Algorithm, Config, HmacSecret};
use crate::db::audit::{Actor, Audited};
use crate::db::signing_key::{self, SigningKey};
use crate::db::{Conn, Db, identity, revision, user};
use crate::error::{Error, Result};
use crate::id::Stamp;
use crate::token::keyring::{Key, KeyState, Keyring, MAX_PLANNED_LEAD, PROPAGATION_TIME, PUBLICATION_LEAD, key_states};
use crate::token::seal::{Opened, Seal};

/// The keyring of the current epoch, without stored keys. If the database was restored or copied, this begins a new
/// epoch.
///
/// # Errors
/// When the database does not answer.
pub fn keyring(db: &Db, secret: &HmacSecret, config: &Config, now: i64) -> Result<Keyring> {
    let epoch = |conn: &mut Conn| Ok(revision::counter(conn)?.epoch);
    let keyring = Keyring::new(secret, config, db.read_now(epoch)?);
    if !db.was_restored()? {
        return Ok(keyring);
    }
    log::warn!("the database was restored or copied since a server used it: all earlier tokens are revoked");
    let cause = (Actor::SERVER, "restored");
    db.change_now(|conn| renew_epoch(conn, &keyring, cause, None, now)?.record(conn), |_| Ok(()))?;
    Ok(keyring.in_epoch(db.read_now(epoch)?))
}

/// A new key that is not stored yet. It is generated before the transaction, because an RSA key takes up to a second
/// and all other changes would wait. It is dropped if no key is needed.
pub struct NewKey {
    key: Key,
    private: Vec<u8>,
}

impl NewKey {
    /// Generates a key; `None` with HS256, which has no stored keys.
    pub fn new(keyring: &Keyring) -> Option<NewKey> {
        Key::generate(keyring.algorithm()).map(|(key, private)| NewKey { key, private })
    }
}

/// Why this process must not change the stored keys with its settings.
#[derive(Debug)]
pub enum SettingsMismatch {
    /// Neither JWT_SECRET nor JWT_SECRET_PREVIOUS unseals the key with this `kid`.
    Sealed(String),
    /// JWT_SECRET_PREVIOUS unseals the key with this `kid`, but JWT_SECRET does not.
    SealedByPrevious(String),
    /// The servers sign with this algorithm, but JWT_ALGORITHM is another.
    Algorithm(Algorithm),
}

impl fmt::Display for SettingsMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsMismatch::Sealed(kid) => write!(
                f,
                "the signing key {kid} in the database is sealed with another JWT_SECRET; set JWT_SECRET_PREVIOUS to \
                 that secret; if it is lost, retire the key and all its tokens: gatebird key retire --lost {kid}"
            ),
            SettingsMismatch::SealedByPrevious(kid) => write!(
                f,
                "the signing key {kid} in the database is sealed with JWT_SECRET_PREVIOUS; run this command with the \
                 JWT_SECRET of the servers, or start a server with the new secret first"
            ),
            SettingsMismatch::Algorithm(used) => {
                write!(f, "the servers sign with {}; run this command with the same JWT_ALGORITHM", used.name())
            }
        }
    }
}

/// Runs `work` and audits every stored key that it creates, changes or deletes.
///
/// # Errors
/// As `work`.
pub fn audited<T>(
    conn: &mut Conn,
    actor: Actor,
    now: i64,
    work: impl FnOnce(&mut Conn) -> Result<T>,
) -> Result<Audited<T>> {
    let before = signing_key::list(conn)?;
    let value = work(conn)?;
    let after = signing_key::list(conn)?;
    let times = |key: &SigningKey| json!({ "signsFrom": key.signs_from, "signsUntil": key.signs_until });
    let mut entries = Vec::new();
    for key in &after {
        let action = match before.iter().find(|former| former.kid == key.kid) {
            None => "key.made",
            Some(former) if former.times() != key.times() => "key.changed",
            Some(_) => continue,
        };
        entries.push(actor.event(action, &key.kid, None, now).with(times(key)));
    }
    let gone = before.iter().filter(|former| after.iter().all(|key| key.kid != former.kid));
    entries.extend(gone.map(|key| actor.event("key.deleted", &key.kid, None, now)));
    Ok(Audited::several(value, entries))
}

/// All stored keys by `kid`, unsealed.
fn open_all(conn: &mut Conn, seal: &Seal) -> Result<std::result::Result<Vec<(String, Opened)>, SettingsMismatch>> {
    let open = |row: SigningKey| {
        let usable = |private: &[u8]| Key::load(row.algorithm, private).is_some_and(|key| key.kid() == row.kid);
        match seal.open(&row.kid, &row.sealed).filter(|opened| usable(&opened.private)) {
            Some(opened) => Ok((row.kid, opened)),
            None => Err(SettingsMismatch::Sealed(row.kid)),
        }
    };
    Ok(signing_key::list(conn)?.into_iter().map(open).collect())
}

/// Checks that the current keys are of this process's JWT_ALGORITHM.
///
/// # Errors
/// When the database does not answer. The inner error is returned when the algorithms differ.
pub fn same_algorithm(conn: &mut Conn, keyring: &Keyring) -> Result<std::result::Result<(), SettingsMismatch>> {
    let other = last_open(conn, i64::MAX - MAX_PLANNED_LEAD)?
        .map(|last| last.algorithm)
        .filter(|used| *used != keyring.algorithm());
    Ok(other.map_or(Ok(()), |used| Err(SettingsMismatch::Algorithm(used))))
}

/// Checks that the servers can use a key that this process creates: they can unseal it, and it is of their algorithm.
///
/// # Errors
/// When the database does not answer. The inner error is returned when they cannot use it.
pub fn same_settings(conn: &mut Conn, keyring: &Keyring) -> Result<std::result::Result<(), SettingsMismatch>> {
    let opened = match open_all(conn, keyring.seal())? {
        Ok(opened) => opened,
        Err(mismatch) => return Ok(Err(mismatch)),
    };
    // The servers may not have the new secret yet.
    match opened.into_iter().find(|(_, opened)| opened.by_previous) {
        Some((kid, _)) => Ok(Err(SettingsMismatch::SealedByPrevious(kid))),
        None => same_algorithm(conn, keyring),
    }
}

/// Whether no stored key of JWT_ALGORITHM signs or will sign, so that [`reconcile`] needs a new one.
///
/// # Errors
/// When the database does not answer.
pub fn needs_key(conn: &mut Conn, keyring: &Keyring, now: i64) -> Result<bool> {
    Ok(last_open(conn, now)?.is_none_or(|last| last.algorithm != keyring.algorithm()))
}

/// Brings the stored keys in line with JWT_ALGORITHM and JWT_SECRET. A node calls this when it starts.
///
/// # Errors
/// When the database does not answer. The inner error is returned when a key cannot be unsealed.
pub fn reconcile(
    conn: &mut Conn,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    now: i64,
) -> Result<std::result::Result<(), SettingsMismatch>> {
    let opened = match open_all(conn, keyring.seal())? {
        Ok(opened) => opened,
        Err(mismatch) => return Ok(Err(mismatch)),
    };
    for (kid, Opened { private, .. }) in opened.iter().filter(|(_, opened)| opened.by_previous) {
        signing_key::set_sealed(conn, kid, &keyring.seal().seal(kid, private))?;
    }
    if keyring.algorithm() == Algorithm::Hs256 {
        signing_key::end_signing(conn, now)?;
        return Ok(Ok(()));
    }
    if last_open(conn, now)?.is_some_and(|last| last.algorithm != keyring.algorithm()) {
        // A pending key of another algorithm has signed nothing yet.
        for row in signing_key::list(conn)?.iter().filter(|row| row.signs_from > now) {
            signing_key::delete(conn, &row.kid)?;
        }
    }
    let signs_from = match last_open(conn, now)? {
        Some(last) if last.algorithm == keyring.algorithm() => return Ok(Ok(())),
        // Verifiers cache the key set without the new key.
        Some(_) => now + PUBLICATION_LEAD,
        // Other nodes may be running and must first read the new key. Without users there are no tokens to verify.
        None if user::any(conn)? => now + PROPAGATION_TIME,
        None => now,
    };
    // `None` if another node has changed the keys since the caller checked.
    let new_key = new_key.or_else(|| NewKey::new(keyring));
    create(conn, keyring, new_key, signs_from, now)?;
    Ok(Ok(()))
}

/// Creates the next key, and returns it. It signs once it has been published for [`PUBLICATION_LEAD`] seconds, or with
/// `at_once` as soon as all nodes know it. Returns the pending key if there is one, unless `at_once`.
///
/// # Errors
/// When the database does not answer.
pub fn rotate(
    conn: &mut Conn,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    at_once: bool,
    now: i64,
) -> Result<SigningKey> {
    match last_open(conn, now)? {
        Some(next) if next.signs_from > now && !at_once => Ok(next),
        Some(_) if !at_once => create(conn, keyring, new_key, now + PUBLICATION_LEAD, now),
        // Without a current key, no verifier has cached a key set.
        _ => create(conn, keyring, new_key, now + PROPAGATION_TIME, now),
    }
}

/// Deletes a key, which invalidates its tokens. The next key takes over its `signs_from`, and is created if there is
/// none. So a new key signs at once, and neither an older key nor JWT_SECRET is used again. Returns whether the key
/// existed.
///
/// # Errors
/// When the database does not answer.
pub fn retire(conn: &mut Conn, keyring: &Keyring, new_key: Option<NewKey>, kid: &str, now: i64) -> Result<bool> {
    let rows = signing_key::list(conn)?;
    let Some(index) = rows.iter().position(|row| row.kid == kid) else { return Ok(false) };
    signing_key::delete(conn, kid)?;
    let retired = &rows[index];
    if keyring.algorithm() == Algorithm::Hs256 || retired.signs_until.is_some() {
        return Ok(true);
    }
    match rows[index + 1..].iter().find(|row| row.signs_until.is_none()) {
        Some(next) => signing_key::set_signs_from(conn, &next.kid, retired.signs_from)?,
        None if retired.signs_from <= now => drop(create(conn, keyring, new_key, retired.signs_from, now)?),
        None => {}
    }
    Ok(true)
}

/// Begins a new epoch, which revokes all earlier tokens, and creates a key that signs at once. This does not unseal the
/// stored keys. With `known`, it does nothing unless `known` is the current epoch. Returns whether a new epoch began.
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
    let renewed = audited(conn, actor, now, |conn| {
        let renewed = identity::renew(conn, known)?;
        if let (true, Some(new_key)) = (renewed, NewKey::new(keyring)) {
            create(conn, keyring, Some(new_key), now, now)?;
        }
        Ok(renewed)
    })?;
    let entry = actor.event("epoch.renewed", "tokens", None, now).with(json!({ "cause": cause }));
    Ok(renewed.and_if(|renewed| *renewed, entry))
}

/// Deletes expired keys, and stores `new_key` as the next key if one is due: `period` seconds after the current key began
/// to sign. Without `new_key`, the next call stores one.
///
/// # Errors
/// When the database does not answer.
pub fn maintain(
    conn: &mut Conn,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    period: Option<i64>,
    now: i64,
) -> Result<()> {
    let rows = signing_key::list(conn)?;
    let times: Vec<_> = rows.iter().map(SigningKey::times).collect();
    for (row, state) in rows.iter().zip(key_states(&times, keyring.max_lifetime(), now)) {
        if state == KeyState::Expired {
            signing_key::delete(conn, &row.kid)?;
        }
    }
    if let (Some(from), Some(_)) = (keyring.next_signs_from(&times, period, now), &new_key) {
        create(conn, keyring, new_key, from, now)?;
    }
    Ok(())
}

fn create(
    conn: &mut Conn,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    signs_from: i64,
    now: i64,
) -> Result<SigningKey> {
    let NewKey { key, private } = new_key.ok_or_else(|| Error::internal("HS256 has no stored keys"))?;
    let sealed = keyring.seal().seal(key.kid(), &private);
    // `signs_from` must be unique, or the order of keys is ambiguous.
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

/// The last key that signs or will sign. Keys that a wrong clock has dated into the far future do not count.
fn last_open(conn: &mut Conn, now: i64) -> Result<Option<SigningKey>> {
    let open = |row: &SigningKey| row.signs_until.is_none() && row.signs_from <= now + MAX_PLANNED_LEAD;
    Ok(signing_key::list(conn)?.into_iter().rfind(open))
}
