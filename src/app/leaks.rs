//! Leaked client secrets: secrets that a browser sent, where every visitor can read them. Each is reported to its owner
//! once.

use std::collections::HashSet;
use std::net::IpAddr;

use parking_lot::Mutex;
use serde_json::json;

use super::App;
use crate::db::audit::{Actor, Audited, Entry, Who};
use crate::db::secret;
use crate::error::Result;
use crate::id::{DomainId, SecretId, UserId};
use crate::outbox::Outbox;

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

/// The leaks that wait to be written to the database.
#[derive(Debug)]
pub struct Leaks {
    pending: Outbox<Leak>,
    /// Secrets whose leak was reported. If it is forgotten, a second report of a secret writes nothing.
    known: Mutex<HashSet<SecretId>>,
}

impl Default for Leaks {
    fn default() -> Leaks {
        Leaks { pending: Outbox::new(MAX_LEAKS), known: Mutex::default() }
    }
}

impl Leaks {
    /// Reports a leak, unless its secret is known. Does no I/O.
    pub fn note(&self, leak: Leak) {
        let secret = leak.secret;
        let mut known = self.known.lock();
        // If the buffer is full, the next use of the secret reports it.
        if known.contains(&secret) || !self.pending.add(leak) {
            return;
        }
        if known.len() >= MAX_LEAKS {
            known.clear();
        }
        known.insert(secret);
    }
}

#[doc(hidden)]
impl App {
    /// Flags the secrets of reported leaks, and writes an audit row for each secret that was not flagged before.
    ///
    /// # Errors
    /// When the database does not answer. The next call writes the rest.
    pub fn write_leaks(&self) -> Result<()> {
        // One transaction for each: the deletion of an account locks its secrets in another order, which could
        // deadlock.
        self.leaks.pending.flush(1, |leaks| {
            self.db.write_now(|conn| {
                for leak in leaks {
                    if secret::set_leaked(conn, leak.secret, leak.at)? {
                        Audited::new((), leak.entry()).record(conn)?;
                    }
                }
                Ok(())
            })
        })
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

    /// Flushes, and returns the numbers of the reported secrets.
    fn reported(leaks: &Leaks) -> Vec<i64> {
        let mut reported = Vec::new();
        let write = |batch: &[Leak]| {
            reported.extend(batch.iter().map(|leak| leak.secret.get()));
            Ok(())
        };
        leaks.pending.flush(1, write).expect("every write succeeds");
        reported
    }

    #[test]
    fn leaks__a_secret_is_reported_once() {
        let leaks = Leaks::default();
        for number in [1, 2, 1, 1, 2] {
            leaks.note(leak(number));
        }
        assert_eq!(reported(&leaks), [1, 2]);
        leaks.note(leak(1));
        assert!(reported(&leaks).is_empty(), "it is known");
        leaks.note(leak(3));
        assert_eq!(reported(&leaks), [3]);
    }

    #[test]
    fn leaks__a_full_buffer_keeps_pending_leaks() {
        let leaks = Leaks::default();
        let max = MAX_LEAKS as i64;
        (0..2 * max).for_each(|number| leaks.note(leak(number)));
        assert_eq!(reported(&leaks), (0..max).collect::<Vec<_>>(), "the first ones");
        // A secret that found no room is reported by its next use, and new secrets replace the known ones.
        (max..3 * max).for_each(|number| leaks.note(leak(number)));
        assert_eq!(reported(&leaks), (max..2 * max).collect::<Vec<_>>());
        leaks.note(leak(0));
        assert_eq!(reported(&leaks), [0]);
    }
}
