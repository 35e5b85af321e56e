//! Domains of a user.

mod members;

use std::sync::Arc;

use serde_json::json;

pub(crate) use self::members::{audiences, host, keys, plan, scopes};
use super::verification::{self, HostChallenge};
use super::{OwnDomain, conflict_on, not_found};
use crate::app::{App, Caller, InForce};
use crate::db::audit::{Actor, Audited};
use crate::db::domain::{self, DomainRow, NewDomain};
use crate::db::{Conn, secret, verified_host};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::locale::Message;
use crate::plan::Plan;
use crate::secret::ClientSecret;
use crate::shares::Budget;
use crate::token::client_keys::ClientKeys;

/// A domain that was registered.
pub(crate) struct Registered {
    pub(crate) domain: DomainRow,
    /// The first client secret, which is stored as a digest only; `None` for a domain with public keys.
    pub(crate) secret: Option<ClientSecret>,
    /// The challenge that verifies the host.
    pub(crate) challenge: HostChallenge,
}

/// Registers a domain, with its first secret unless it has public keys.
///
/// # Errors
/// A plan that only the operator grants; too many domains; a host that the user has already or that another user has
/// verified; as [`App::write`].
pub(crate) async fn register(app: &Arc<App>, caller: Caller, user: UserId, new: NewDomain) -> Result<Registered> {
    check_plan(app.config.plans.of(new.plan).self_service)?;
    app.check_max_domains()?;
    app.spend(Budget::Registrations(caller.network()))?;
    let (now, trusted, max) = (app.now(), app.trusted_now(), app.config.domains_per_user);
    let register = move |conn: &mut Conn| {
        // The count is exact, because every change of a domain holds the lock of the revision.
        if let Some(max) = max
            && domain::count(conn, user)? >= max
        {
            return Err(Error::Quota(Message::DomainQuota));
        }
        let registered = register_row(conn, caller.actor, user, &new, now)?;
        let challenge = verification::challenge(conn, user, &new.host, now, trusted)?;
        Ok(registered.map(|(domain, secret)| Registered { domain, secret, challenge }))
    };
    app.write(caller, InForce::Soon, register).await
}

/// Registers a domain for a user.
///
/// # Errors
/// When the user has the host already, or another user has verified it.
pub(crate) fn register_row(
    conn: &mut Conn,
    actor: Actor,
    user: UserId,
    new: &NewDomain,
    now: i64,
) -> Result<Audited<(DomainRow, Option<ClientSecret>)>> {
    if verified_host::of_other_user(conn, new.host.as_str(), user)?.is_some() {
        return Err(Error::Taken { name: "host", problem: Message::HostVerifiedByOther });
    }
    let domain = domain::insert(conn, user, new, now).map_err(conflict_on("host", Message::HostTaken))?;
    let secret = if new.jwks.is_some() { None } else { Some(ClientSecret::random()) };
    if let Some(secret) = &secret {
        secret::insert(conn, domain.id, secret, actor, now)?;
    }
    let mut detail = json!({ "host": domain.host, "type": domain.plan.as_str() });
    for (member, limit) in [("scopes", &domain.scopes), ("audiences", &domain.audiences)] {
        if let Some(limit) = limit {
            detail[member] = json!(limit);
        }
    }
    if domain.jwks.is_some() {
        detail["jwks"] = json!(true);
    }
    let entry = actor.event("domain.registered", domain.id, Some(user), now).with(detail);
    Ok(Audited::new((domain, secret), entry))
}

/// A change of a domain; at least one member is present.
pub(crate) struct DomainChange {
    pub(crate) plan: Option<Plan>,
    /// Public keys that replace those of the domain. When one of the earlier keys is not among them, earlier tokens
    /// end.
    pub(crate) keys: Option<ClientKeys>,
}

/// Changes a domain, if `check` accepts it as it is.
///
/// # Errors
/// What `check` returns; a plan that only the operator grants; keys for a domain that has a secret; as [`App::write`].
pub(crate) async fn change(
    app: &Arc<App>,
    own: OwnDomain,
    DomainChange { plan, keys }: DomainChange,
    check: impl FnOnce(&DomainRow) -> Result<()> + Send + 'static,
) -> Result<DomainRow> {
    let now = app.now();
    let self_service = plan.is_none_or(|plan| app.config.plans.of(plan).self_service);
    let change = move |conn: &mut Conn| {
        let mut domain = own.find_for_change(conn)?;
        check(&domain)?;
        domain.dormant = false;
        let mut detail = json!({});
        if let Some(plan) = plan {
            detail["type"] = json!(plan.as_str());
            // The owner may keep a plan that the operator granted.
            if plan != domain.plan {
                check_plan(self_service)?;
                domain = domain::set_plan(conn, own.user, own.id, plan)?.ok_or_else(not_found)?;
            }
        }
        if let Some(keys) = keys {
            detail["jwks"] = json!(true);
            let earlier = domain.jwks.ok_or_else(|| Error::field("jwks", Message::NoKeys))?;
            let ends_tokens = !keys.contains(&earlier);
            domain = domain::set_jwks(conn, own.user, own.id, &keys, ends_tokens, now)?.ok_or_else(not_found)?;
        }
        Ok(Audited::new(domain, own.event("domain.changed", now).with(detail)))
    };
    app.write(own.caller, InForce::BeforeAnswer, change).await
}

/// Deletes a domain with its secrets, if `check` accepts it as it is. Its tokens are revoked.
///
/// # Errors
/// What `check` returns; a domain that the operator suspended, because it could be registered again; as [`App::write`].
pub(crate) async fn delete(
    app: &Arc<App>,
    own: OwnDomain,
    check: impl FnOnce(&DomainRow) -> Result<()> + Send + 'static,
) -> Result<()> {
    let entry = own.event("domain.deleted", app.now());
    let delete = move |conn: &mut Conn| {
        let domain = own.find_for_change(conn)?;
        if domain.suspended {
            return Err(Error::Suspended(Message::DomainSuspended));
        }
        check(&domain)?;
        if domain::delete(conn, own.user, own.id)? { Ok(Audited::new((), entry)) } else { Err(not_found()) }
    };
    app.write(own.caller, InForce::BeforeAnswer, delete).await
}

/// Refuses a plan that only the operator may assign.
fn check_plan(self_service: bool) -> Result<()> {
    if self_service { Ok(()) } else { Err(Error::PlanNotGranted) }
}
