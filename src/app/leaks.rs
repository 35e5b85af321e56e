//! Client secrets that came from a browser, where everybody can read them: each is told to its owner once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::App;
use crate::db::audit::{Actor, Audited, Entry, Who};
use crate::db::secret_use;
use crate::error::Result;
use crate::id::{DomainId, SecretId, UserId};

/// So many are remembered, and so many may wait to be written.
const MOST: usize = 10_000;

/// A secret that came from a browser.
#[derive(Clone, Debug)]
pub struct Leak {
    /// The secret's number.
    pub secret: SecretId,
    /// Whose it is.
    pub domain: DomainId,
    /// The domain's owner.
    pub tenant: UserId,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Unix seconds.
    pub at: i64,
}

impl Leak {
    fn entry(&self) -> Entry {
        let actor = Actor { who: Who::Client(self.domain), address: self.address };
        let entry = actor.did("secret.leaked", self.secret.get(), Some(self.tenant), self.at);
        entry.with(json!({ "domain": self.domain.as_str() }))
    }
}

/// What was noted and not yet written, and what was noted before.
#[derive(Debug, Default)]
pub struct Leaks(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    waiting: Vec<Leak>,
    /// Those that wait, and others that need no second look at the database.
    known: HashSet<SecretId>,
}

impl Leaks {
    /// Notes a secret, unless it is known. Costs no write, however often it comes.
    pub fn note(&self, leak: Leak) {
        let mut noted = self.noted();
        let Noted { waiting, known } = &mut *noted;
        // Where too many wait, the secret's next use tells of it.
        if waiting.len() >= MOST {
            return;
        }
        if known.len() >= MOST {
            *known = waiting.iter().map(|leak| leak.secret).collect();
        }
        if known.insert(leak.secret) {
            waiting.push(leak);
        }
    }

    /// Takes what waits to be written.
    pub fn take(&self) -> Vec<Leak> {
        std::mem::take(&mut self.noted().waiting)
    }

    /// Gives back what could not be written, for the next time.
    pub fn give_back(&self, leaks: Vec<Leak>) {
        let mut noted = self.noted();
        let room = MOST.saturating_sub(noted.waiting.len());
        noted.waiting.extend(leaks.into_iter().take(room));
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Flags the secrets that came from a browser since the last time, and tells their owners; of each, only the first
    /// time ever.
    ///
    /// # Errors
    /// When the database does not answer; nothing is forgotten then.
    pub fn write_leaks(&self) -> Result<()> {
        let mut leaks = self.leaks.take();
        // One at a time: whoever deletes an account locks its secrets in another order than we would.
        while let Some(leak) = leaks.last() {
            let written = self.db.write_now(|conn| match secret_use::set_leaked(conn, leak.secret, leak.at)? {
                true => Audited::new((), leak.entry()).record(conn),
                false => Ok(()),
            });
            if let Err(error) = written {
                self.leaks.give_back(leaks);
                return Err(error);
            }
            leaks.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::of_row;

    fn leak(number: i64) -> Leak {
        let (tenant, secret) = of_row(1, number);
        Leak { secret, domain: DomainId::random(), tenant, address: None, at: 0 }
    }

    fn taken(leaks: &Leaks) -> Vec<i64> {
        leaks.take().iter().map(|leak| leak.secret.get()).collect()
    }

    #[test]
    fn each_secret_waits_once() {
        let leaks = Leaks::default();
        for number in [1, 2, 1, 1, 2] {
            leaks.note(leak(number));
        }
        let waiting = leaks.take();
        leaks.note(leak(1));
        assert!(leaks.take().is_empty(), "it is known");
        leaks.note(leak(3));
        leaks.give_back(waiting);
        assert_eq!(taken(&leaks), [3, 1, 2]);
    }

    #[test]
    fn memory_is_bounded_and_what_waits_is_kept() {
        let leaks = Leaks::default();
        let most = MOST as i64;
        (0..2 * most).for_each(|number| leaks.note(leak(number)));
        let waiting = leaks.take();
        assert_eq!(waiting.len(), MOST, "the first ones");
        // Those that were taken are forgotten for others.
        (most..3 * most).for_each(|number| leaks.note(leak(number)));
        leaks.give_back(waiting);
        assert_eq!(taken(&leaks), (most..2 * most).collect::<Vec<_>>());
        leaks.note(leak(0));
        assert_eq!(taken(&leaks), [0]);
    }
}
