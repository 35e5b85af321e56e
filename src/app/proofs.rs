//! Proving control of hosts: looking at a user's request, within limits, and looking again each day at what was proven.

use std::sync::{Arc, Weak};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use super::{App, upkeep};
use crate::config::Config;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::proof::{self, Held};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host::Host;
use crate::id::UserId;
use crate::locale::Message;
use crate::proof::{Challenge, Found, Look, Prober, proven_by};
use crate::shares::{Budget, Holder, Share};
use actix_web::web;
use serde_json::json;

/// Verifications for users that may run at once.
const MAX_CHECKS: usize = 16;
/// How long a request waits for its turn. A verification takes up to 5 seconds.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How many other registrations of a proven host one transaction of a request ends.
pub(crate) const OUSTED_AT_ONCE: i64 = 25;
const DAY: i64 = 86_400;
/// Seconds that a proof may be missing before the domain is no longer proven.
const GRACE: i64 = 7 * DAY;
/// Proofs that are looked at again at once, each of which may take 5 seconds.
const BATCH: i64 = 8;
/// Seconds after which a look is taken again whose result was not written: the database was away, or the node ended.
const LOOKS_FOR: i64 = 60;
/// How often it is seen whether one is due.
const EVERY: Duration = Duration::from_secs(60);

/// What proving needs.
pub(super) struct Proving {
    prober: Prober,
    checks: Share,
}

impl Proving {
    pub(super) fn new(config: &Config) -> Proving {
        Proving { prober: Prober::new(config), checks: Share::new(MAX_CHECKS) }
    }
}

/// Looks at due proofs on a thread of its own until the app is gone.
pub(super) fn keep_looking(app: Weak<App>) -> std::result::Result<(), Exit> {
    upkeep::repeat("looking at proofs", EVERY, app, |app| {
        while app.recheck_proofs()? > 0 && !app.is_draining() {}
        Ok(())
    })
}

/// Ends at most so many other registrations of a proven host, and returns an entry of the audit log for each. The entries
/// name the server, because the other owners must not learn who has proven the host.
pub(crate) fn oust_some(conn: &mut Conn, host: &str, now: i64, rows: i64) -> Result<Vec<Entry>> {
    let entry = |(id, owner)| Actor::SERVER.did("domain.ousted", id, Some(owner), now).with(json!({ "host": host }));
    Ok(proof::oust_some(conn, host, rows)?.into_iter().map(entry).collect())
}

fn oust_batch(conn: &mut Conn, host: &str, now: i64, rows: i64) -> Result<Audited<usize>> {
    let entries = oust_some(conn, host, now, rows)?;
    Ok(Audited::several(entries.len(), entries))
}

impl App {
    /// Goes on to end the other registrations of proven hosts where a request could not.
    pub(super) fn finish_oustings(&self) -> Result<()> {
        while let Some(host) = self.db.read_now(|conn| Ok(proof::next_ousting(conn)?))?
            && !self.is_draining()
        {
            self.in_batches(|rows| self.change_now(|conn| oust_batch(conn, &host, self.now(), rows)))?;
        }
        Ok(())
    }

    /// Ends all other registrations of a host that the holder has proven, some in each transaction.
    ///
    /// # Errors
    /// `CommitUnknown` when the database does not answer; the upkeep goes on with it.
    pub(crate) async fn oust_others(self: &Arc<App>, holder: Holder, host: &str) -> Result<()> {
        loop {
            let (host, now) = (host.to_owned(), self.now());
            let ousted = self.change(holder, move |conn| oust_batch(conn, &host, now, OUSTED_AT_ONCE)).await;
            if ousted.map_err(|_| Error::CommitUnknown)? < OUSTED_AT_ONCE as usize {
                return Ok(());
            }
        }
    }

    /// Looks for a user's challenge now, which takes up to 5 seconds.
    ///
    /// # Errors
    /// Too many verifications by that user, or of that host by that user; `Busy` when the holder's share is used up.
    pub(crate) async fn look(self: &Arc<App>, holder: Holder, user: UserId, challenge: Challenge) -> Result<Vec<Look>> {
        // By host and not by domain, which can be deleted and registered again.
        for budget in [Budget::ChecksOfHost(user, challenge.host.as_str()), Budget::Checks(user)] {
            let spent = self.budgets.spend(budget, self.steady_now());
            spent.map_err(|wait| Error::FailureLimit { wait, message: Message::Tries })?;
        }
        let permit = self.proving.checks.take(holder, TURN_TIMEOUT).await.ok_or(Error::Busy)?;
        let app = Arc::clone(self);
        let looking = web::block(move || {
            let _permit = permit;
            let may_connect = |address| {
                let budgets = [Budget::ChecksOfAddressByUser(address, user), Budget::ChecksOfAddress(address)];
                budgets.into_iter().all(|budget| app.budgets.spend(budget, app.steady_now()).is_ok())
            };
            app.proving.prober.look(&challenge, &may_connect)
        });
        looking.await.map_err(Error::internal)
    }

    /// Looks again at some of the proofs that are a day old, all at once, and says how many there were. One that is missing
    /// for 7 days ends. Several nodes may do this at once: each look is taken by one of them.
    ///
    /// # Errors
    /// When the database does not answer; what could not be read or written is done a minute later.
    pub fn recheck_proofs(&self) -> Result<usize> {
        // A wrong clock says nothing of days and weeks.
        if !self.clock_is_right() {
            return Ok(0);
        }
        let due = self.db.read_now(|conn| Ok(proof::due(conn, self.now() - DAY, BATCH)?))?;
        let count = due.len();
        std::thread::scope(|scope| {
            let looks: Vec<_> = due.into_iter().map(|due| scope.spawn(move || self.recheck(due, false))).collect();
            let done = |look: ScopedJoinHandle<'_, Result<()>>| {
                look.join().unwrap_or_else(|_| Err(Error::internal("looking at a proof panicked")))
            };
            // Each to its end, whatever became of the others.
            let done: Vec<Result<()>> = looks.into_iter().map(done).collect();
            done.into_iter().collect::<Result<()>>()
        })?;
        Ok(count)
    }

    /// Looks now at the proof of who holds a host, because another user has proven it: who had control for a minute must not
    /// keep it for days. A proof that is missing ends at once.
    ///
    /// # Errors
    /// As [`App::change`]; `Busy` when the share of who has proven it is used up.
    pub(crate) async fn challenge(self: &Arc<App>, holder: Holder, held: Held) -> Result<()> {
        let permit = self.proving.checks.take(holder, TURN_TIMEOUT).await.ok_or(Error::Busy)?;
        let app = Arc::clone(self);
        let looking = web::block(move || {
            let _permit = permit;
            app.recheck(held, true)
        });
        looking.await.map_err(Error::internal)?
    }

    /// Looks at one, unless somebody else does. A missing proof ends after some days, or at once where the host
    /// `is_challenged`.
    fn recheck(&self, (proof, host, tenant): Held, is_challenged: bool) -> Result<()> {
        let now = self.now();
        let due_again = now - DAY + LOOKS_FOR;
        let Some(claimed) = self.db.write_now(|conn| Ok(proof::claim(conn, &proof, due_again)?))? else {
            return Ok(());
        };
        let challenge = Challenge { host: Host::from_stored(host), token: claimed.token.clone() };
        let looks = self.proving.prober.look(&challenge, &|_| true);
        // Without an answer of DNS nobody knows whether it is there.
        let is_lost = is_challenged && looks.iter().all(|look| look.found != Found::NoAnswer);
        match (proven_by(&looks), claimed.failing_since) {
            (Some(method), _) => self.db.write_now(|conn| Ok(proof::found_again(conn, &claimed, method, now)?)),
            (None, since) if is_lost || since.is_some_and(|since| now - since >= GRACE) => {
                self.change_now(|conn| match proof::end_missing(conn, &claimed)? {
                    true => {
                        let entry = Actor::SERVER.did("domain.unproven", claimed.domain_id, Some(tenant), now);
                        Ok(Audited::new((), entry))
                    }
                    false => Ok(Audited::nothing(())),
                })
            }
            (None, since) => {
                // What a wrong clock has put into the future begins now.
                let since = since.map_or(now, |since| since.min(now));
                self.db.write_now(|conn| Ok(proof::set_failing(conn, &claimed, since, now)?))
            }
        }
    }
}
