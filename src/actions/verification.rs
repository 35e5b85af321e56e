//! Verification of a host: the user publishes a challenge, and the server checks for it.

use std::sync::Arc;

use serde_json::json;

use super::{OwnDomain, conflict_on};
use crate::app::verification::{SUPERSEDE_BATCH, supersede_some};
use crate::app::{App, InForce};
use crate::db::Conn;
use crate::db::audit::{Actor, Audited};
use crate::db::domain::DomainRow;
use crate::db::verified_host::{self, VerifiedHost};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::UserId;
use crate::locale::Message;
use crate::usage::DAY;
use crate::verification::{Challenge, Check, Method, verified_by};

/// Seconds for which a challenge is good.
const CHALLENGE_LIFE: i64 = 7 * DAY;

/// The challenge that must be found on a host.
#[derive(Clone, Debug)]
pub(crate) struct HostChallenge {
    pub(crate) challenge: Challenge,
    /// Unix seconds; `None` once the challenge has verified the host.
    pub(crate) expires_at: Option<i64>,
    /// Unix seconds since when the challenge has no longer been found.
    pub(crate) failing_since: Option<i64>,
}

impl HostChallenge {
    fn of(challenge: verified_host::Challenge, host: Host) -> HostChallenge {
        let verified_host::Challenge { token, expires_at } = challenge;
        HostChallenge { challenge: Challenge { host, token }, expires_at: Some(expires_at), failing_since: None }
    }
}

/// The challenge that a user must publish on a host: the one that is good at the trusted time, or a new one.
pub(crate) fn challenge(conn: &mut Conn, user: UserId, host: &Host, now: i64, trusted: i64) -> Result<HostChallenge> {
    let new = verified_host::Challenge { token: Challenge::random_token(), expires_at: now + CHALLENGE_LIFE };
    let challenge = verified_host::challenge_or(conn, user, host.as_str(), new, trusted)?;
    Ok(HostChallenge::of(challenge, host.clone()))
}

/// The domain, and its challenge if there is one.
///
/// # Errors
/// As [`OwnDomain::read`].
pub(crate) async fn state(app: &App, own: OwnDomain) -> Result<(DomainRow, Option<HostChallenge>)> {
    let trusted = app.trusted_now();
    let read = move |conn: &mut Conn, domain: DomainRow| {
        let host = Host::from_stored(domain.host.clone());
        let wanted = match verified_host::find(conn, domain.id)? {
            Some(VerifiedHost { token, failing_since, .. }) => {
                Some(HostChallenge { challenge: Challenge { host, token }, expires_at: None, failing_since })
            }
            None => {
                let known = verified_host::challenge(conn, domain.user_id, host.as_str(), trusted)?;
                known.map(|challenge| HostChallenge::of(challenge, host))
            }
        };
        Ok((domain, wanted))
    };
    own.read(app, read).await
}

/// What a verification did.
pub(crate) struct Verified {
    /// The domain as it is now.
    pub(crate) domain: DomainRow,
    /// The challenge that the server checked for.
    pub(crate) wanted: HostChallenge,
    /// Where the server looked, and what it found.
    pub(crate) checks: Vec<Check>,
    /// The challenge was found, and the domain holds the host.
    pub(crate) is_verified: bool,
}

/// Looks for the challenge now. When it is found, the domain becomes the holder of its host, and other registrations of
/// the host end that are not verified.
///
/// # Errors
/// When another user holds the host; too many verifications; as [`App::write`].
pub(crate) async fn verify(app: &Arc<App>, own: OwnDomain) -> Result<Verified> {
    let (domain, wanted) = state(app, own).await?;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => {
            let (now, trusted) = (app.now(), app.trusted_now());
            let make = move |conn: &mut Conn| {
                let domain = own.find_for_change(conn)?;
                Ok(Audited::nothing(challenge(conn, own.caller.user(), &Host::from_stored(domain.host), now, trusted)?))
            };
            app.write(own.caller, InForce::BeforeAnswer, make).await?
        }
    };
    // A registration that was verified, or superseded by another user, most likely belongs to the owner of the host.
    let is_owner = domain.verified_at.is_some() || domain.superseded;
    let holder = if is_owner { own.caller.holder().ends_theft() } else { own.caller.holder() };
    let checks = app.verify_host(holder, own.caller.user(), wanted.challenge.clone()).await?;
    let Some(method) = verified_by(&checks) else {
        return Ok(Verified { domain, wanted, checks, is_verified: false });
    };
    let held =
        own.read(app, |conn, domain| Ok(verified_host::of_other_user(conn, &domain.host, domain.user_id)?)).await?;
    if let Some(held) = held {
        app.recheck_holder(own.caller.holder().ends_theft(), held).await?;
    }
    let (now, token) = (app.now(), wanted.challenge.token.clone());
    let take = move |conn: &mut Conn| {
        let domain = own.find_for_change(conn)?;
        take_over(conn, own.caller.actor(), domain, method, &token, now)
    };
    let (domain, superseded) = app.write(own.caller, InForce::BeforeAnswer, take).await?;
    if superseded == SUPERSEDE_BATCH as usize {
        app.supersede_others(own.caller.into(), &domain.host).await?;
    }
    let wanted = HostChallenge { expires_at: None, failing_since: None, ..wanted };
    Ok(Verified { domain, wanted, checks, is_verified: true })
}

/// Makes the domain the verified one of its host, unless another domain that is not suspended is. Also returns how many
/// other registrations were superseded.
fn take_over(
    conn: &mut Conn,
    actor: Actor,
    mut domain: DomainRow,
    method: Method,
    token: &str,
    now: i64,
) -> Result<Audited<(DomainRow, usize)>> {
    let (user, id) = (domain.user_id, domain.id);
    if domain.verified_at.is_some() {
        verified_host::record_success(conn, id, method, now)?;
        return Ok(Audited::nothing((domain, 0)));
    }
    if verified_host::of_other_user(conn, &domain.host, user)?.is_some() {
        return Err(Error::Taken { name: "host", problem: Message::HostVerifiedByOther });
    }
    let suspended = verified_host::end_suspended(conn, &domain.host)?;
    let inserted = verified_host::insert(conn, id, method, token, now);
    inserted.map_err(conflict_on("host", Message::HostVerifiedByOther))?;
    (domain.verified_at, domain.superseded) = (Some(now), false);
    let verified = actor.event("domain.verified", id, Some(user), now);
    let mut entries = vec![verified.with(json!({ "host": domain.host, "method": method.as_str() }))];
    let superseded = supersede_some(conn, &domain.host, now, SUPERSEDE_BATCH)?;
    let count = superseded.len();
    entries.extend(superseded);
    entries.extend(
        suspended.into_iter().map(|(id, owner)| Actor::SERVER.event("domain.unverified", id, Some(owner), now)),
    );
    Ok(Audited::several((domain, count), entries))
}
