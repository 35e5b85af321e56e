//! Proving control of hosts: looking at a user's request, within limits, and looking again each day at what was proven.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use actix_web::web;
use tokio::sync::Semaphore;

use super::{App, upkeep};
use crate::config::Config;
use crate::db::audit::{Actor, Audited};
use crate::db::proof::{self, Proof};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host::Host;
use crate::id::UserId;
use crate::locale::Message;
use crate::proof::{Challenge, Look, Prober, proven_by};

/// Looks at users' requests that may go on at once; more are answered 503.
const MOST_AT_ONCE: usize = 16;
/// And so many of one user, who could let each of them take its time.
const MOST_OF_ONE: usize = 2;
/// Tries of one user for one host in a minute.
const MOST_TRIES: usize = 5;
const MINUTE: i64 = 60;
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
    places: Arc<Semaphore>,
    /// How many looks of each user go on.
    looking: Mutex<HashMap<UserId, usize>>,
    /// When each user last tried each host. By host and not by domain, which can be deleted and registered again.
    tries: Mutex<HashMap<(UserId, String), Vec<i64>>>,
}

impl Proving {
    pub(super) fn new(config: &Config) -> Proving {
        Proving {
            prober: Prober::new(config),
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            looking: Mutex::default(),
            tries: Mutex::default(),
        }
    }

    /// Takes one of the user's places.
    fn begin(self: &Arc<Proving>, tenant: UserId) -> Result<Looking> {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let count = looking.entry(tenant).or_default();
        match *count < MOST_OF_ONE {
            true => {
                *count += 1;
                Ok(Looking { proving: Arc::clone(self), tenant })
            }
            false => Err(Error::Busy),
        }
    }

    /// Takes one of the tries, of which there are so many in any minute.
    fn take_try(&self, tenant: UserId, host: &Host, now: i64) -> Result<()> {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not lock anybody out.
        let counts = |at: &i64| (now - MINUTE + 1..=now).contains(at);
        if tries.len() >= 1024 {
            tries.retain(|_, at| at.iter().any(counts));
        }
        let at = tries.entry((tenant, host.as_str().to_owned())).or_default();
        at.retain(counts);
        match at.first() {
            Some(first) if at.len() >= MOST_TRIES => Err(Error::FailureLimit {
                wait: Duration::from_secs((first + MINUTE - now) as u64),
                message: Message::Tries,
            }),
            _ => {
                at.push(now);
                Ok(())
            }
        }
    }
}

/// A user's place, until it is dropped.
struct Looking {
    proving: Arc<Proving>,
    tenant: UserId,
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut looking = self.proving.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let left = looking.get(&self.tenant).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => looking.remove(&self.tenant),
            _ => looking.insert(self.tenant, left),
        };
    }
}

/// Looks at due proofs on a thread of its own until the app is gone.
pub(super) fn keep_looking(app: Weak<App>) -> std::result::Result<(), Exit> {
    upkeep::repeat("looking at proofs", EVERY, app, |app| {
        while app.recheck_proofs()? > 0 && !app.is_draining() {}
        Ok(())
    })
}

impl App {
    /// Looks for a user's challenge now, which takes up to 5 seconds.
    ///
    /// # Errors
    /// Too many tries of that user for that host, or too many looks at once.
    pub(crate) async fn look(&self, tenant: UserId, challenge: Challenge) -> Result<Vec<Look>> {
        let own = self.proving.begin(tenant)?;
        let place = Arc::clone(&self.proving.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        self.proving.take_try(tenant, &challenge.host, self.now())?;
        let proving = Arc::clone(&self.proving);
        let looking = web::block(move || {
            let _held = (place, own);
            proving.prober.look(&challenge)
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
            let looks: Vec<_> = due.into_iter().map(|due| scope.spawn(move || self.recheck(due))).collect();
            let done = |look: ScopedJoinHandle<'_, Result<()>>| {
                look.join().unwrap_or_else(|_| Err(Error::internal("looking at a proof panicked")))
            };
            // Each to its end, whatever became of the others.
            let done: Vec<Result<()>> = looks.into_iter().map(done).collect();
            done.into_iter().collect::<Result<()>>()
        })?;
        Ok(count)
    }

    /// Looks at one, unless somebody else does.
    fn recheck(&self, (proof, host, tenant): (Proof, String, UserId)) -> Result<()> {
        let now = self.now();
        let due_again = now - DAY + LOOKS_FOR;
        let Some(claimed) = self.db.write_now(|conn| Ok(proof::claim(conn, &proof, due_again)?))? else {
            return Ok(());
        };
        let looks =
            self.proving.prober.look(&Challenge { host: Host::from_stored(host), token: claimed.token.clone() });
        match (proven_by(&looks), claimed.failing_since) {
            (Some(method), _) => self.db.write_now(|conn| Ok(proof::found_again(conn, &claimed, method, now)?)),
            (None, Some(since)) if now - since >= GRACE => self.change_now(|conn| match proof::end(conn, &claimed)? {
                true => {
                    let entry = Actor::SERVER.did("domain.unproven", claimed.domain_id, Some(tenant), now);
                    Ok(Audited::new((), entry))
                }
                false => Ok(Audited::nothing(())),
            }),
            (None, since) => {
                // What a wrong clock has put into the future begins now.
                let since = since.map_or(now, |since| since.min(now));
                self.db.write_now(|conn| Ok(proof::set_failing(conn, &claimed, since, now)?))
            }
        }
    }
}
