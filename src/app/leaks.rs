//! Leaked client secrets: secrets that a browser sent, where every visitor can read them. Each is reported to its owner
//! once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::App;
use crate::db::audit::{Actor, Audited, Entry, Who};
use crate::db::secret_use;
use crate::error::Result;
use crate::id::{DomainId, SecretId, UserId};

/// Largest number of remembered secrets, and of leaks that wait to be written.
const MAX_LEAKS: usize = 10_000;

/// A client secret that a browser sent.
#[derive(Clone, Debug)]
pub struct Leak {
    /// The secret.
    pub secret: SecretId,
    /// The secret's domain.
    pub domain: DomainId,
    /// The domain's owner.
    pub tenant: UserId,
    /// The address that sent the request.
    pub address: Option<IpAddr>,
    /// When it was sent, in Unix seconds.
    pub at: i64,
}

impl Leak {
    fn entry(&self) -> Entry {
        let actor = Actor { who: Who::Client(self.domain), address: self.address };
        let entry = actor.event("secret.leaked", self.secret.get(), Some(self.tenant), self.at);
        entry.with(json!({ "domain": self.domain.as_str() }))
    }
}

/// The buffer of leaks.
#[derive(Debug, Default)]
pub struct Leaks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Leaks that are not yet written.
    pending: Vec<Leak>,
    /// Secrets whose leak is pending or already written.
    known: HashSet<SecretId>,
}

impl Leaks {
    /// Adds a leak, unless its secret is known. This writes nothing to the database.
    pub fn note(&self, leak: Leak) {
        let mut state = self.state();
        let State { pending, known } = &mut *state;
        // If the buffer is full, the next use of the secret reports it.
        if pending.len() >= MAX_LEAKS {
            return;
        }
        if known.len() >= MAX_LEAKS {
            *known = pending.iter().map(|leak| leak.secret).collect();
        }
        if known.insert(leak.secret) {
            pending.push(leak);
        }
    }

    /// Takes all pending leaks.
    pub fn take(&self) -> Vec<Leak> {
        std::mem::take(&mut self.state().pending)
    }

    /// Returns leaks that could not be written to the buffer.
    pub fn give_back(&self, leaks: Vec<Leak>) {
        let mut state = self.state();
        let room = MAX_LEAKS.saturating_sub(state.pending.len());
        state.pending.extend(leaks.into_iter().take(room));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[doc(hidden)]
impl App {
    /// Flags the secrets of pending leaks, and writes an audit row for each secret that was not flagged before.
    ///
    /// # Errors
    /// When the database does not answer. The leaks stay pending.
    pub fn write_leaks(&self) -> Result<()> {
        let mut leaks = self.leaks.take();
        // One transaction for each: the deletion of an account locks its secrets in another order, which could
        // deadlock.
        while let Some(leak) = leaks.last() {
            let written = self.db.write_now(|conn| {
                if secret_use::set_leaked(conn, leak.secret, leak.at)? {
                    Audited::new((), leak.entry()).record(conn)?;
                }
                Ok(())
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
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
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
    fn leaks__a_secret_is_pending_once() {
        let leaks = Leaks::default();
        for number in [1, 2, 1, 1, 2] {
            leaks.note(leak(number));
        }
        let pending = leaks.take();
        leaks.note(leak(1));
        assert!(leaks.take().is_empty(), "it is known");
        leaks.note(leak(3));
        leaks.give_back(pending);
        assert_eq!(taken(&leaks), [3, 1, 2]);
    }

    #[test]
    fn leaks__a_full_buffer_keeps_pending_leaks() {
        let leaks = Leaks::default();
        let max = MAX_LEAKS as i64;
        (0..2 * max).for_each(|number| leaks.note(leak(number)));
        let pending = leaks.take();
        assert_eq!(pending.len(), MAX_LEAKS, "the first ones");
        // New leaks replace the known secrets of those that were taken.
        (max..3 * max).for_each(|number| leaks.note(leak(number)));
        leaks.give_back(pending);
        assert_eq!(taken(&leaks), (max..2 * max).collect::<Vec<_>>());
        leaks.note(leak(0));
        assert_eq!(taken(&leaks), [0]);
    }
}
