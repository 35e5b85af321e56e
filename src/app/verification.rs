//! Verification of hosts: on request of users, within limits, and daily rechecks of verified hosts.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use super::{App, Caller, InForce};
use crate::config::Config;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::verified_host::{self, OwnedVerifiedHost};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::UserId;
use crate::shares::{Budget, Holder, Network, ReservedShare, Share};
use crate::usage::DAY;
use crate::verification::{Challenge, Check, Outcome, Verifier, verified_by};
use actix_web::web;
use serde_json::json;

/// Verifications that may run at once on behalf of users. Each occupies a thread, which mostly waits for a host or its DNS.
const MAX_VERIFICATIONS: usize = 64;
/// How many of these one network or account may have, so that only many networks can exhaust them.
const MAX_VERIFICATIONS_PER_HOLDER: usize = 4;
/// Further verifications that may run at once on behalf of owners.
const RESERVED_VERIFICATIONS: usize = 8;
/// How long a request waits for a permit. A verification takes up to 5 seconds.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many other registrations of a verified host one transaction of a request supersedes.
pub(crate) const SUPERSEDE_BATCH: i64 = 25;
/// Seconds for which the challenge may be missing before the host counts as unverified.
const GRACE_PERIOD: i64 = 7 * DAY;
/// Rechecks that run at once.
const RECHECK_BATCH: i64 = 8;
/// Seconds after which a recheck is repeated if its result was not written, because the database did not answer or the
/// node exited.
const CLAIM_TIMEOUT: i64 = 60;

/// The state of host verification.
pub(super) struct HostChecks {
    verifier: Verifier,
    permits: ReservedShare,
}

impl HostChecks {
    pub(super) fn new(config: &Config) -> HostChecks {
        let share = Share::limited(MAX_VERIFICATIONS, MAX_VERIFICATIONS_PER_HOLDER);
        HostChecks { verifier: Verifier::new(config), permits: ReservedShare::new(share, RESERVED_VERIFICATIONS) }
    }
}

/// Supersedes at most `rows` other registrations of a verified host. Returns an audit entry for each. Their actor is
/// the server, because the other owners must not learn who has verified the host.
pub(crate) fn supersede_some(conn: &mut Conn, host: &str, now: i64, rows: i64) -> Result<Vec<Entry>> {
    let entry =
        |(id, owner)| Actor::SERVER.event("domain.superseded", id, Some(owner), now).with(json!({ "host": host }));
    Ok(verified_host::supersede_some(conn, host, rows)?.into_iter().map(entry).collect())
}

fn supersede_batch(conn: &mut Conn, host: &str, now: i64, rows: i64) -> Result<Audited<usize>> {
    let entries = supersede_some(conn, host, now, rows)?;
    Ok(Audited::several(entries.len(), entries))
}

#[doc(hidden)]
impl App {
    /// Supersedes the remaining registrations of verified hosts that requests have not superseded.
    pub(super) fn finish_superseding(&self) -> Result<()> {
        while let Some(host) = self.db.read_now(|conn| Ok(verified_host::next_superseding_host(conn)?))?
            && !self.is_draining()
        {
            self.in_batches(|rows| self.write_now(|conn| supersede_batch(conn, &host, self.now(), rows)))?;
        }
        Ok(())
    }

    /// Supersedes all other registrations of a host that the holder has verified, in batches.
    ///
    /// # Errors
    /// `CommitUnknown` when the database does not answer. The removal thread does the rest.
    pub(crate) async fn supersede_others(self: &Arc<App>, caller: Caller, host: &str) -> Result<()> {
        // The host stays verified even if the caller's token has been revoked meanwhile.
        let caller = Caller { token: None, ..caller };
        loop {
            let (host, now) = (host.to_owned(), self.now());
            let superseded = self
                .write(caller, InForce::BeforeAnswer, move |conn| supersede_batch(conn, &host, now, SUPERSEDE_BATCH))
                .await;
            if superseded.map_err(|_| Error::CommitUnknown)? < SUPERSEDE_BATCH as usize {
                return Ok(());
            }
        }
    }

    /// Verifies a host for a user now. This takes up to 5 seconds.
    ///
    /// # Errors
    /// `FailureLimit` after too many verifications by that user; `Busy` when the holder's share is exhausted.
    pub(crate) async fn verify_host(
        self: &Arc<App>,
        holder: Holder,
        user: UserId,
        challenge: Challenge,
    ) -> Result<Vec<Check>> {
        // The limit is by host, not by domain: a domain can be deleted and registered again.
        for budget in [Budget::VerificationsOfHost(user, challenge.host.as_str()), Budget::Verifications(user)] {
            self.spend(budget)?;
        }
        let permit = self.host_checks.permits.take(holder, PERMIT_TIMEOUT).await.ok_or(Error::Busy)?;
        let app = Arc::clone(self);
        let verification = web::block(move || {
            let _permit = permit;
            let may_connect = |addresses: &[IpAddr]| {
                let networks: HashSet<Network> = addresses.iter().map(|address| Network::of(Some(*address))).collect();
                let budgets = |network| {
                    [Budget::VerificationsOfNetworkByUser(network, user), Budget::VerificationsOfNetwork(network)]
                };
                networks.into_iter().flat_map(budgets).all(|budget| app.budgets.spend(budget, app.steady_now()).is_ok())
            };
            app.host_checks.verifier.verify(&challenge, &may_connect)
        });
        verification.await.map_err(Error::internal)
    }

    /// Rechecks a batch of hosts whose last check is a day old, and returns the size of the batch. A host whose
    /// challenge is missing for 7 days becomes unverified. Several nodes may do this at once: one of them claims each
    /// recheck.
    ///
    /// # Errors
    /// When the database does not answer. Rechecks without a stored result are repeated after a minute.
    pub fn recheck_hosts(&self) -> Result<usize> {
        // A wrong clock cannot tell whether a day has passed.
        if !self.clock_is_right() {
            return Ok(0);
        }
        let due = self.db.read_now(|conn| Ok(verified_host::due(conn, self.now() - DAY, RECHECK_BATCH)?))?;
        let count = due.len();
        std::thread::scope(|scope| {
            let rechecks: Vec<_> = due.into_iter().map(|due| scope.spawn(move || self.recheck(due, false))).collect();
            let join = |recheck: ScopedJoinHandle<'_, Result<()>>| {
                recheck.join().unwrap_or_else(|_| Err(Error::internal("a recheck of a host panicked")))
            };
            // All are joined, also after a failure.
            let results: Vec<Result<()>> = rechecks.into_iter().map(join).collect();
            results.into_iter().collect::<Result<()>>()
        })?;
        Ok(count)
    }

    /// Rechecks the current holder of a host now, because another user has verified the host: a short control of a host
    /// must not last for days. If the holder's challenge is missing, the holder's host becomes unverified at once.
    ///
    /// # Errors
    /// As [`App::write`]; `Busy` when the share of the other user is exhausted.
    pub(crate) async fn recheck_holder(self: &Arc<App>, holder: Holder, held: OwnedVerifiedHost) -> Result<()> {
        let permit = self.host_checks.permits.take(holder, PERMIT_TIMEOUT).await.ok_or(Error::Busy)?;
        let app = Arc::clone(self);
        let verification = web::block(move || {
            let _permit = permit;
            app.recheck(held, true)
        });
        verification.await.map_err(Error::internal)?
    }

    /// Rechecks one host, unless another node has claimed it. A host whose challenge is missing becomes unverified
    /// after the grace period, or at once if it `is_challenged` by another user.
    fn recheck(&self, (verification, host, tenant): OwnedVerifiedHost, is_challenged: bool) -> Result<()> {
        let now = self.now();
        let due_again = now - DAY + CLAIM_TIMEOUT;
        let Some(claimed) = self.db.write_now(|conn| Ok(verified_host::claim(conn, &verification, due_again)?))? else {
            return Ok(());
        };
        let challenge = Challenge { host: Host::from_stored(host), token: claimed.token.clone() };
        let checks = self.host_checks.verifier.verify(&challenge, &|_| true);
        // Without an answer of DNS, the challenge may still be there.
        let is_lost = is_challenged && checks.iter().all(|check| check.outcome != Outcome::NoAnswer);
        match (verified_by(&checks), claimed.failing_since) {
            (Some(method), _) => {
                self.db.write_now(|conn| Ok(verified_host::record_claimed_success(conn, &claimed, method, now)?))
            }
            (None, since) if is_lost || since.is_some_and(|since| now - since >= GRACE_PERIOD) => {
                self.write_now(|conn| {
                    if !verified_host::end_failed(conn, &claimed)? {
                        return Ok(Audited::nothing(()));
                    }
                    let entry = Actor::SERVER.event("domain.unverified", claimed.domain_id, Some(tenant), now);
                    Ok(Audited::new((), entry))
                })
            }
            (None, since) => {
                // A start that a wrong clock has dated into the future is corrected to now.
                let since = since.map_or(now, |since| since.min(now));
                self.db.write_now(|conn| Ok(verified_host::record_failure(conn, &claimed, since, now)?))
            }
        }
    }
}
