//! Client secrets of a domain.

use std::sync::Arc;

use serde_json::json;

use super::{OwnDomain, not_found};
use crate::app::{App, InForce};
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::domain::{self, DomainRow};
use crate::db::secret::{self, SecretDetails};
use crate::error::{Error, Result};
use crate::id::{DomainId, SecretId, UserId};
use crate::locale::Message;
use crate::secret::ClientSecret;
use crate::usage::DAY;

/// The longest time in seconds for which earlier secrets may go on.
const MAX_GRACE: i64 = 30 * DAY;
/// A grace in seconds that may end before this node reads the database again.
const SHORT_GRACE: i64 = 60;
/// Secrets of a domain that may work at the same time.
const MAX_SECRETS: i64 = 200;
/// Secrets that one transaction ends.
pub(crate) const ENDED_BATCH: usize = 25;

/// Makes a new secret. The earlier ones work for `grace` more seconds; with 0, they end at once, and the tokens of the domain
/// are revoked.
///
/// # Errors
/// A grace that is too long; as [`rotate_row`] and [`App::write`].
pub(crate) async fn rotate(app: &Arc<App>, own: OwnDomain, grace: i64) -> Result<(SecretDetails, ClientSecret)> {
    if !(0..=MAX_GRACE).contains(&grace) {
        return Err(Error::field("graceSeconds", Message::GraceSeconds));
    }
    let now = app.now();
    let rotate = move |conn: &mut Conn| {
        let domain = own.find_for_change(conn)?;
        rotate_row(conn, own.caller.actor, &domain, grace, now)
    };
    let in_force = if grace < SHORT_GRACE { InForce::BeforeAnswer } else { InForce::Soon };
    app.write(own.caller, in_force, rotate).await
}

/// Rotates the secrets of a domain.
///
/// # Errors
/// When the domain has keys instead of secrets, or too many secrets.
pub(crate) fn rotate_row(
    conn: &mut Conn,
    actor: Actor,
    domain: &DomainRow,
    grace: i64,
    now: i64,
) -> Result<Audited<(SecretDetails, ClientSecret)>> {
    let id = domain.id;
    if domain.jwks.is_some() {
        return Err(Error::field("id", Message::HasKeys));
    }
    if grace > 0 && secret::count_live(conn, id, now)? >= MAX_SECRETS {
        return Err(Error::Quota(Message::TooManySecrets));
    }
    let new = ClientSecret::random();
    let shown = secret::rotate(conn, id, &new, grace, actor, now)?;
    let entry = actor.event("secret.rotated", id, Some(domain.user_id), now);
    let entry = entry.with(json!({ "graceSeconds": grace, "secret": shown.id.get() }));
    Ok(Audited::new((shown, new), entry))
}

/// Ends one secret, and revokes every token of the domain.
///
/// # Errors
/// When the domain has no such secret; as [`App::write`].
pub(crate) async fn retire(app: &Arc<App>, own: OwnDomain, id: SecretId) -> Result<()> {
    let entry = own.event("secret.retired", app.now()).with(json!({ "secret": id.get() }));
    let retire = move |conn: &mut Conn| {
        let domain = own.find_for_change(conn)?;
        if secret::delete(conn, domain.id, id)? { Ok(Audited::new((), entry)) } else { Err(not_found()) }
    };
    app.write(own.caller, InForce::BeforeAnswer, retire).await
}

/// Ends secrets and public keys of a user's domains that were made or set at the time `since` or later, at most [`ENDED_BATCH`]
/// of them. Returns an audit row for each.
pub(super) fn end_since(conn: &mut Conn, actor: Actor, user: UserId, since: i64, now: i64) -> Result<Vec<Entry>> {
    let some = secret::made_since(conn, user, since, ENDED_BATCH as i64)?;
    for (id, domain) in &some {
        secret::delete(conn, *domain, *id)?;
    }
    let ended = |(id, domain): (SecretId, DomainId)| {
        actor.event("secret.retired", domain, Some(user), now).with(json!({ "secret": id.get() }))
    };
    let mut entries: Vec<Entry> = some.into_iter().map(ended).collect();
    for domain in domain::with_keys_since(conn, user, since, (ENDED_BATCH - entries.len()) as i64)? {
        domain::remove_keys(conn, domain)?;
        entries.push(actor.event("domain.keys_removed", domain, Some(user), now));
    }
    Ok(entries)
}
