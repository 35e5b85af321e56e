//! Revocation of single tokens. Each request waits for its own transaction, and the first transaction of a burst writes
//! all waiting revocations of its domain. So a burst costs few commits and few audit rows.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use super::{App, Caller, InForce};
use crate::db::audit::Audited;
use crate::db::revocation;
use crate::db::{COMMIT_TIMEOUT, Conn};
use crate::error::{Error, Result};
use crate::id::{DomainId, TokenId, UserId};
use crate::shares::Budget;

/// How many tokens one transaction revokes, so that it holds the writer for a few milliseconds only.
const MAX_BATCH: usize = 64;

/// Revocations that wait for a transaction, by domain.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<HashMap<DomainId, Vec<Arc<Pending>>>>);

#[derive(Debug)]
struct Pending {
    token: TokenId,
    /// The token's `exp`, in Unix seconds.
    expires_at: i64,
    /// Another request's transaction has taken it, or its own request has ended.
    is_taken: AtomicBool,
    /// Notified when another request's transaction has written it and it is in force on this node.
    is_done: Notify,
}

/// The client that revokes a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoker {
    pub(crate) domain: DomainId,
    /// The domain's owner.
    pub(crate) user: UserId,
    /// The same client, as the caller of a change.
    pub(crate) caller: Caller,
}

impl Revocations {
    /// Takes a batch of a domain's revocations. The caller must write them.
    fn take(&self, domain: DomainId) -> Vec<Arc<Pending>> {
        let mut pending = self.0.lock();
        let Some(waiting) = pending.get_mut(&domain) else { return Vec::new() };
        let batch = waiting.drain(..waiting.len().min(MAX_BATCH)).collect();
        if waiting.is_empty() {
            pending.remove(&domain);
        }
        batch
    }
}

/// A revocation in the queue. It leaves the queue when its request ends, also when the client disconnects.
struct InLine<'a> {
    revocations: &'a Revocations,
    domain: DomainId,
    own: Arc<Pending>,
}

impl InLine<'_> {
    /// Leaves the queue. Returns whether another request's transaction has taken this revocation.
    fn leave(&self) -> bool {
        let is_taken = self.own.is_taken.swap(true, Ordering::AcqRel);
        let mut pending = self.revocations.0.lock();
        if let Some(waiting) = pending.get_mut(&self.domain) {
            waiting.retain(|waiting| !Arc::ptr_eq(waiting, &self.own));
            if waiting.is_empty() {
                pending.remove(&self.domain);
            }
        }
        is_taken
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl App {
    /// Revokes a token of a client. This node refuses the token before this returns.
    ///
    /// # Errors
    /// `AccountLimit` when the user revokes too many tokens; as [`App::write`].
    pub(crate) async fn revoke(self: &Arc<App>, revoker: Revoker, token: TokenId, expires_at: i64) -> Result<()> {
        let spent = self.spend(Budget::Revocations(revoker.user));
        spent.inspect_err(|error| self.refused(revoker.domain, error))?;
        let own = Arc::new(Pending { token, expires_at, is_taken: AtomicBool::new(false), is_done: Notify::new() });
        self.revocations.0.lock().entry(revoker.domain).or_default().push(Arc::clone(&own));
        let in_line = InLine { revocations: &self.revocations, domain: revoker.domain, own: Arc::clone(&own) };
        let (app, now) = (Arc::clone(self), self.now());
        let write = move |conn: &mut Conn| {
            // If another transaction has taken this revocation, this request may end before it could notify others.
            let is_taken = own.is_taken.load(Ordering::Acquire);
            let mut others = if is_taken { Vec::new() } else { app.revocations.take(revoker.domain) };
            others.retain(|waiting| waiting.token != token && !waiting.is_taken.swap(true, Ordering::AcqRel));
            let tokens = others.iter().map(|other| (other.token, other.expires_at));
            let mut revoked = Vec::new();
            // This request's own token is always written: another transaction may have taken it and failed.
            for (token, expires_at) in tokens.chain([(token, expires_at)]) {
                if revocation::insert(conn, token, expires_at)? {
                    revoked.push(token);
                }
            }
            let Revoker { caller: Caller { actor, .. }, user, domain } = revoker;
            Ok(match revoked[..] {
                [] => Audited::nothing(others),
                [token] => Audited::new(others, actor.event("token.revoked", token, Some(user), now)),
                _ => {
                    let entry = actor.event("token.revoked", domain, Some(user), now);
                    Audited::new(others, entry.with(json!({ "tokens": revoked.len() })))
                }
            })
        };
        let change = pin!(self.write(revoker.caller, InForce::BeforeAnswer, write));
        match select(pin!(in_line.own.is_done.notified()), change).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((Ok(others), _)) => {
                others.iter().for_each(|other| other.is_done.notify_one());
                Ok(())
            }
            // The transaction that has taken this revocation may still commit it.
            Either::Right((Err(Error::Busy), _)) if in_line.leave() => {
                let done = tokio::time::timeout(COMMIT_TIMEOUT, in_line.own.is_done.notified()).await;
                done.map_err(|_elapsed| Error::CommitUnknown)
            }
            Either::Right((Err(error), _)) => Err(error),
        }
    }
}
