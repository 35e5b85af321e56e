//! Revocations of single tokens, written in batches: while one batch of a domain is committed, the next one gathers. So a
//! burst costs few transactions and few audit rows, and a single revocation waits for nothing.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::rt;
use serde_json::json;
use tokio::sync::oneshot;

use super::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited};
use crate::db::revocation;
use crate::error::{Error, Result};
use crate::id::{DomainId, TokenId, UserId};
use crate::shares::{Budget, Holder};

/// How many tokens one transaction revokes, so that it holds the writer for a few milliseconds only.
const MAX_BATCH: usize = 256;

/// Revocations that wait for their transaction, by domain. A domain has an entry while a task writes its batches.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<HashMap<DomainId, Vec<Pending>>>);

#[derive(Debug)]
struct Pending {
    token: TokenId,
    /// The token's `exp`.
    expires_at: i64,
    done: oneshot::Sender<Result<()>>,
}

/// The client that revokes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoker {
    /// Its domain.
    pub(crate) domain: DomainId,
    /// The domain's owner.
    pub(crate) user: UserId,
    /// For the audit log.
    pub(crate) actor: Actor,
    /// Whose shares are used.
    pub(crate) holder: Holder,
}

impl Revocations {
    fn pending(&self) -> MutexGuard<'_, HashMap<DomainId, Vec<Pending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch of that domain. `None` when there is none, and the domain's task must end.
    fn next(&self, domain: DomainId) -> Option<Vec<Pending>> {
        let mut pending = self.pending();
        let waiting = pending.get_mut(&domain)?;
        if waiting.is_empty() {
            pending.remove(&domain);
            return None;
        }
        let rest = waiting.split_off(waiting.len().min(MAX_BATCH));
        Some(mem::replace(waiting, rest))
    }
}

impl App {
    /// Revokes a token of a client. It is refused on this node before this returns.
    ///
    /// # Errors
    /// Too many revocations by that user; as [`App::change`].
    pub(crate) async fn revoke(self: &Arc<App>, revoker: Revoker, token: TokenId, expires_at: i64) -> Result<()> {
        self.spend_of_account(Budget::Revocations(revoker.user))?;
        let (done, outcome) = oneshot::channel();
        let mut is_first = false;
        self.revocations
            .pending()
            .entry(revoker.domain)
            .or_insert_with(|| {
                is_first = true;
                Vec::new()
            })
            .push(Pending { token, expires_at, done });
        if is_first {
            // A task of its own, which goes on when the first client goes away.
            let app = Arc::clone(self);
            rt::spawn(async move {
                while let Some(batch) = app.revocations.next(revoker.domain) {
                    app.write_revocations(revoker, batch).await;
                }
            });
        }
        outcome.await.map_err(Error::internal)?
    }

    async fn write_revocations(self: &Arc<App>, revoker: Revoker, batch: Vec<Pending>) {
        let tokens: Vec<(TokenId, i64)> = batch.iter().map(|pending| (pending.token, pending.expires_at)).collect();
        let now = self.now();
        let insert = move |conn: &mut Conn| {
            let Revoker { actor, user, domain, .. } = revoker;
            let mut revoked = Vec::with_capacity(tokens.len());
            for (token, expires_at) in tokens {
                if revocation::insert(conn, token, expires_at)? {
                    revoked.push(token);
                }
            }
            Ok(match revoked[..] {
                [] => Audited::nothing(()),
                [token] => Audited::new((), actor.did("token.revoked", token, Some(user), now)),
                _ => {
                    let entry = actor.did("token.revoked", domain, Some(user), now);
                    Audited::new((), entry.with(json!({ "tokens": revoked.len() })))
                }
            })
        };
        let outcome = self.change(revoker.holder.ends_theft(), insert).await;
        for pending in batch {
            let answer = match &outcome {
                Ok(()) => Ok(()),
                Err(Error::Busy) => Err(Error::Busy),
                Err(Error::Unsettled) => Err(Error::Unsettled),
                Err(error) => Err(Error::internal(error.cause().unwrap_or("a batch of revocations failed"))),
            };
            // The client may have gone.
            drop(pending.done.send(answer));
        }
    }
}
