//! Changes of the database. A change and its audit rows are written in one transaction. [`App::write`] also checks the
//! caller's token, so that no handler can forget the check.

use std::net::IpAddr;
use std::sync::Arc;

use super::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry, Who};
use crate::db::revocation::{self, TokenGeneration};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::shares::{Budget, Holder, Network};

/// The party that requests a change.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The actor in the audit log.
    pub actor: Actor,
    /// The holder of the share of the database that the change uses.
    pub holder: Holder,
    /// The token of the request. It must still be valid when the transaction begins, which may be seconds later.
    pub token: Option<TokenGeneration>,
}

impl Caller {
    /// The network that the request came from.
    pub(crate) fn network(self) -> Network {
        Network::of(self.actor.address)
    }
}

/// A party with a valid token, which gives it access to the data of one user.
#[derive(Clone, Copy, Debug)]
pub struct TokenCaller {
    /// The network address of the request.
    pub address: Option<IpAddr>,
    /// The token of the request.
    pub token: TokenGeneration,
}

impl TokenCaller {
    /// The user whose data the caller may see.
    pub fn user(self) -> UserId {
        self.token.user
    }

    /// The holder of the caller's shares.
    pub fn holder(self) -> Holder {
        Holder::account(Network::of(self.address), self.user())
    }

    /// The actor in the audit log.
    pub fn actor(self) -> Actor {
        Actor { who: self.token.domain.map_or(Who::User(self.user()), Who::Client), address: self.address }
    }

    /// An audit row for a change of the user's data.
    pub fn event(self, action: &'static str, target: impl ToString, at: i64) -> Entry {
        self.actor().event(action, target, Some(self.user()), at)
    }
}

impl From<TokenCaller> for Caller {
    fn from(caller: TokenCaller) -> Caller {
        Caller { actor: caller.actor(), holder: caller.holder(), token: Some(caller.token) }
    }
}

/// When a change must be in force on this node. Other nodes apply it within two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// At the commit, for tables that are not in the directory. The change does not take the lock on the revision.
    AtCommit,
    /// Within a second, for a change that revokes nothing at once. The call succeeds at the commit, even if this node
    /// has not applied the change yet: the answer may hold a secret that is shown once and must not be lost.
    Soon,
    /// Before the call returns, for a change that revokes something: a revocation must not be reported before the node
    /// refuses the token. The change uses the holder's share for actions that end a theft.
    BeforeAnswer,
}

#[doc(hidden)]
impl App {
    /// Reads for a request. `work` gets the user whose data the caller may see.
    ///
    /// # Errors
    /// As [`crate::db::Db::read`].
    pub async fn read<T: Send + 'static, E>(
        &self,
        caller: TokenCaller,
        work: impl FnOnce(&mut Conn, UserId) -> std::result::Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        Error: From<E>,
    {
        self.db.read(caller.holder(), move |conn| Ok(work(conn, caller.user())?)).await
    }

    /// Makes a change for a request.
    ///
    /// # Errors
    /// - `AccountLimit` when the clients of the account make too many changes: each adds a row to the audit log.
    /// - `TokenRevoked` when the caller's token was revoked meanwhile.
    /// - The error of `work`.
    /// - `Busy` within 1.5 s when the database does not answer, is full or slow, or the caller's share is exhausted.
    /// - `CommitUnknown` when the commit has begun and its outcome is unknown, or when the change is committed but not
    ///   in force on this node in time. After the other errors, nothing is changed.
    pub async fn write<T: Send + 'static>(
        self: &Arc<App>,
        caller: impl Into<Caller>,
        in_force: InForce,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        let caller = caller.into();
        if let Some(TokenGeneration { user, domain: Some(domain), .. }) = caller.token {
            self.spend(Budget::ClientChanges(user)).inspect_err(|error| self.refused(domain, error))?;
        }
        let work = move |conn: &mut Conn| match caller.token {
            Some(token) if !revocation::is_current(conn, token)? => Err(Error::TokenRevoked),
            _ => work(conn)?.record(conn),
        };
        let holder = match in_force {
            InForce::AtCommit => return self.db.write(caller.holder, work).await,
            InForce::Soon => caller.holder,
            InForce::BeforeAnswer => caller.holder.ends_theft(),
        };
        let app = Arc::clone(self);
        let (value, applied) = self.db.change(holder, work, move |conn| app.directory.catch_up(conn)).await?;
        match applied {
            Err(error) if in_force == InForce::BeforeAnswer => return Err(error),
            Err(error) => log::warn!("a change is committed and not yet in force on this node: {error}"),
            Ok(()) => {}
        }
        Ok(value)
    }

    /// Makes a change on this thread, without a time limit, for work that no request waits for. The change is in force
    /// on this node before this returns.
    ///
    /// # Errors
    /// As [`App::write`].
    pub fn write_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<Audited<T>>) -> Result<T> {
        self.db.change_now(|conn| work(conn)?.record(conn), |conn| self.directory.catch_up(conn))
    }
}
