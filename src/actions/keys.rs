//! Stored signing keys, for the operator.

use super::ByOperator;
use crate::app::keys::{self, NewKey, SettingsMismatch};
use crate::db::Conn;
use crate::db::audit::Audited;
use crate::db::signing_key::{self, SigningKey};
use crate::error::Result;
use crate::token::keyring::{KeyState, Keyring, key_states};

/// The change, or why this process must not make it.
type Changed<T> = Audited<std::result::Result<T, SettingsMismatch>>;

/// Returns every key with its state, in the order in which they sign. `max_lifetime` is the maximum lifetime of a token
/// in seconds.
pub(crate) fn list(conn: &mut Conn, max_lifetime: i64, now: i64) -> Result<Vec<(SigningKey, KeyState)>> {
    let rows = signing_key::list(conn)?;
    let times: Vec<_> = rows.iter().map(SigningKey::times).collect();
    let states = key_states(&times, max_lifetime, now);
    Ok(rows.into_iter().zip(states).collect())
}

/// Creates the next key; see [`keys::rotate`].
pub(crate) fn rotate(
    conn: &mut Conn,
    by: ByOperator,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    at_once: bool,
) -> Result<Changed<SigningKey>> {
    keys::audited(conn, by.actor, by.now, |conn| match keys::same_settings(conn, keyring)? {
        Ok(()) => keys::rotate(conn, keyring, new_key, at_once, by.now).map(Ok),
        Err(mismatch) => Ok(Err(mismatch)),
    })
}

/// Deletes a key; see [`keys::retire`]. With `lost`, JWT_SECRET need not unseal the stored keys.
pub(crate) fn retire(
    conn: &mut Conn,
    by: ByOperator,
    keyring: &Keyring,
    new_key: Option<NewKey>,
    (kid, lost): (&str, bool),
) -> Result<Changed<bool>> {
    let fits = if lost { keys::same_algorithm } else { keys::same_settings };
    keys::audited(conn, by.actor, by.now, |conn| match fits(conn, keyring)? {
        Ok(()) => keys::retire(conn, keyring, new_key, kid, by.now).map(Ok),
        Err(mismatch) => Ok(Err(mismatch)),
    })
}
