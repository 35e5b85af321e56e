//! Domains of a user.

mod members;

use std::sync::Arc;

use serde_json::json;

pub(crate) use self::members::{audiences, host, keys, plan, scopes};
use super::verification::{self, HostChallenge};
use super::{ByOperator, conflict_on, not_found};
use crate::app::bounds::check_stored;
use crate::app::{App, InForce, TokenCaller};
use crate::config::Config;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::domain::{self, DomainRow, NewDomain};
use crate::db::{Conn, dormancy, secret, verified_host};
use crate::error::{Error, Result};
use crate::id::{DomainId, UserId};
use crate::locale::Message;
use crate::plan::Plan;
use crate::secret::ClientSecret;
use crate::shares::{Budget, Network};
use crate::token::client_keys::ClientKeys;

/// A signed-in user and a domain id from the path. Ownership is checked by the query, which returns `NotFound` when the id
/// is unknown or another user's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnDomain {
    pub(crate) caller: TokenCaller,
    pub(crate) id: DomainId,
}

impl OwnDomain {
    /// Finds the row for a change, and wakes the domain when it is dormant. The row is returned as it was before, as the
    /// caller may have seen it. Nothing else changes it until the end of the transaction, because every change of a domain
    /// holds the lock on the revision.
    pub(super) fn find_for_change(self, conn: &mut Conn) -> Result<DomainRow> {
        let domain = domain::find(conn, self.caller.user(), self.id)?.ok_or_else(not_found)?;
        dormancy::wake(conn, domain.id)?;
        Ok(domain)
    }

    /// Reads the row, and what `work` reads with it.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        app: &App,
        work: impl FnOnce(&mut Conn, DomainRow) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = move |conn: &mut Conn, user| {
            let domain = domain::find(conn, user, self.id)?.ok_or_else(not_found)?;
            work(conn, domain)
        };
        app.read(self.caller, read).await
    }

    /// An audit row for a change of the domain by its owner.
    pub(super) fn event(self, action: &'static str, at: i64) -> Entry {
        self.caller.event(action, self.id, at)
    }
}

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
pub(crate) async fn register(app: &Arc<App>, caller: TokenCaller, new: NewDomain) -> Result<Registered> {
    check_plan(app.config.plans.of(new.plan).self_service)?;
    app.check_max_domains()?;
    app.spend(Budget::Registrations(Network::of(caller.address)))?;
    let (user, max) = (caller.user(), app.config.domains_per_user);
    let (now, trusted) = (app.now(), app.trusted_now());
    let register = move |conn: &mut Conn| {
        // The count is exact, because every change of a domain holds the lock of the revision.
        if let Some(max) = max
            && domain::count(conn, user)? >= max
        {
            return Err(Error::Quota(Message::DomainQuota));
        }
        let registered = register_row(conn, caller.actor(), user, &new, now)?;
        let challenge = verification::challenge(conn, user, &new.host, now, trusted)?;
        Ok(registered.map(|(domain, secret)| Registered { domain, secret, challenge }))
    };
    app.write(caller, InForce::Soon, register).await
}

/// Registers a domain.
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

/// A change of a domain.
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
    let (user, now) = (own.caller.user(), app.now());
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
            }
            // A stored plan of a newer version reads as the first plan, and is replaced by it.
            domain = domain::set_plan(conn, user, own.id, plan)?.ok_or_else(not_found)?;
        }
        if let Some(keys) = keys {
            detail["jwks"] = json!(true);
            let earlier = domain.jwks.ok_or_else(|| Error::field("jwks", Message::NoKeys))?;
            let ends_tokens = !keys.contains(&earlier);
            domain = domain::set_jwks(conn, user, own.id, &keys, ends_tokens, now)?.ok_or_else(not_found)?;
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
        domain::delete(conn, own.caller.user(), own.id)?;
        Ok(Audited::new((), entry))
    };
    app.write(own.caller, InForce::BeforeAnswer, delete).await
}

/// Refuses a plan that only the operator may assign.
fn check_plan(self_service: bool) -> Result<()> {
    if self_service { Ok(()) } else { Err(Error::PlanNotGranted) }
}

/// Finds a domain of any user for a change by the operator, and wakes it.
pub(super) fn find_any(conn: &mut Conn, id: DomainId) -> Result<DomainRow> {
    let domain = domain::find_any(conn, id)?.ok_or_else(not_found)?;
    dormancy::wake(conn, id)?;
    Ok(domain)
}

/// Registers a domain with a secret for a user. The operator may assign every plan.
///
/// # Errors
/// When the user has the host already, another user has verified it, or the server has too many domains.
pub(crate) fn add(
    conn: &mut Conn,
    by: ByOperator,
    user: UserId,
    new: &NewDomain,
    config: &Config,
) -> Result<Audited<(DomainRow, Option<ClientSecret>)>> {
    let added = register_row(conn, by.actor, user, new, by.now)?;
    check_stored(conn, config)?;
    Ok(added)
}

/// Suspends or resumes a domain. A suspension revokes the domain's tokens.
pub(crate) fn suspend(conn: &mut Conn, by: ByOperator, id: DomainId, suspended: bool) -> Result<Audited<DomainRow>> {
    let domain = find_any(conn, id)?;
    domain::set_suspended(conn, id, suspended)?;
    let action = if suspended { "domain.suspended" } else { "domain.resumed" };
    let entry = by.event(action, id, domain.user_id);
    Ok(Audited::new(domain, entry))
}

/// Ends the verification of a domain's host. Also returns whether the host was verified.
pub(crate) fn unverify(conn: &mut Conn, by: ByOperator, id: DomainId) -> Result<Audited<(DomainRow, bool)>> {
    let domain = find_any(conn, id)?;
    let is_ended = verified_host::end(conn, id)?;
    let entry = by.event("domain.unverified", id, domain.user_id);
    Ok(Audited::nothing((domain, is_ended)).and_if(|(_, is_ended)| *is_ended, entry))
}

/// Sets the plan of a domain. The operator may assign every plan.
pub(crate) fn set_plan(conn: &mut Conn, by: ByOperator, id: DomainId, plan: Plan) -> Result<Audited<DomainRow>> {
    let domain = find_any(conn, id)?;
    domain::set_plan(conn, domain.user_id, id, plan)?;
    let entry = by.event("domain.changed", id, domain.user_id).with(json!({ "type": plan.as_str() }));
    Ok(Audited::new(domain, entry))
}

/// The scopes and audiences that a domain's tokens may have, each separated by spaces; `None` if all are allowed.
pub(crate) struct Allowed {
    pub(crate) scopes: Option<String>,
    pub(crate) audiences: Option<String>,
}

/// Restricts a domain to scopes and audiences. An absent member is left as it is or, with `all`, is no longer restricted.
/// Returns the domain with its restrictions.
pub(crate) fn allow(
    conn: &mut Conn,
    by: ByOperator,
    id: DomainId,
    Allowed { scopes, audiences }: Allowed,
    all: bool,
) -> Result<Audited<DomainRow>> {
    let domain = find_any(conn, id)?;
    let scopes = scopes.or(domain.scopes.filter(|_| !all));
    let audiences = audiences.or(domain.audiences.filter(|_| !all));
    domain::set_allowed(conn, id, scopes.as_deref(), audiences.as_deref())?;
    let entry = by.event("domain.allowed", id, domain.user_id);
    let entry = entry.with(json!({ "scopes": scopes, "audiences": audiences }));
    Ok(Audited::new(DomainRow { scopes, audiences, ..domain }, entry))
}
