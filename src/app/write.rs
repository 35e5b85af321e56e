//! Changes of the database. A change runs in one transaction with the rows of the audit log that tell of it. The functions
//! here check the caller's token, so that no handler can forget to.

use std::sync::Arc;

use super::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited};
use crate::db::revocation::{self, TokenGeneration};
use crate::error::{Error, Result};
use crate::shares::{Budget, Holder, Network};

/// The party that asks for a change.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Named in the audit log.
    pub actor: Actor,
    /// Charged for the use of the database.
    pub holder: Holder,
    /// The token that the request was admitted with. It must still be good when the transaction begins, which may be seconds
    /// later.
    pub token: Option<TokenGeneration>,
}

impl Caller {
    /// The network that the request came from.
    pub(crate) fn network(self) -> Network {
        Network::of(self.actor.address)
    }
}

/// When a committed change is in force on this node. Other nodes follow within two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// At the commit: the changed tables are not kept in memory. Such a change does not take the lock on the revision.
    AtCommit,
    /// Within a second. For a change that takes nothing away, or not soon. Its answer may hold a secret that is shown only
    /// once, so it must not depend on a node that reads the change back.
    Soon,
    /// Before the call returns. For a change that takes something away: nobody may be told of a revocation before the node
    /// refuses the token. Such a change uses the share that is reserved for ending a theft.
    BeforeAnswer,
}

impl App {
    /// Makes a change for a request.
    ///
    /// # Errors
    /// `AccountLimit` when the access tokens of the account's domains change too much: each change adds a row to the audit log.
    /// `TokenRevoked` when the caller's token was revoked meanwhile; what `work` returns; `Busy` within 1.5 s when the database
    /// is away, full or slow, or the caller's share is used up: nothing is changed then. `CommitUnknown` when the commit has
    /// begun and its outcome is open, or when a change is committed but not in force here within some seconds.
    pub async fn write<T: Send + 'static>(
        self: &Arc<App>,
        caller: Caller,
        in_force: InForce,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
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
            Err(error) => log::warn!("a change is not yet in force on this node: {error}"),
            Ok(()) => {}
        }
        Ok(value)
    }

    /// Makes a change on this thread, for work that no request waits for. The change is in force on this node before this
    /// returns.
    ///
    /// # Errors
    /// As [`App::write`].
    pub fn write_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<Audited<T>>) -> Result<T> {
        self.db.change_now(|conn| work(conn)?.record(conn), |conn| self.directory.catch_up(conn))
    }
}
