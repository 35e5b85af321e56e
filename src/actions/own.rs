//! A domain of the caller.

use super::not_found;
use crate::app::{App, Caller};
use crate::db::Conn;
use crate::db::audit::Entry;
use crate::db::domain::{self, DomainRow};
use crate::db::dormancy;
use crate::error::Result;
use crate::id::{DomainId, UserId};

/// A signed-in user and a domain id from the path. Ownership is checked by the query: [`OwnDomain::find`] returns `NotFound`
/// when the id is unknown or another user's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnDomain {
    pub(crate) caller: Caller,
    pub(crate) user: UserId,
    pub(crate) id: DomainId,
}

impl OwnDomain {
    /// Finds the row.
    ///
    /// # Errors
    /// `NotFound` when the domain is not the user's.
    pub(crate) fn find(self, conn: &mut Conn) -> Result<DomainRow> {
        domain::find(conn, self.user, self.id)?.ok_or_else(not_found)
    }

    /// Finds the row for a change, and wakes the domain when it is dormant. The row is returned as it was before, as the
    /// caller may have seen it. Nothing else changes it until the end of the transaction, because every change of a domain
    /// holds the lock on the revision.
    ///
    /// # Errors
    /// As [`OwnDomain::find`].
    pub(super) fn find_for_change(self, conn: &mut Conn) -> Result<DomainRow> {
        let domain = self.find(conn)?;
        dormancy::wake(conn, domain.id)?;
        Ok(domain)
    }

    /// Reads the row, and what `work` reads with it.
    ///
    /// # Errors
    /// As [`OwnDomain::find`]; what `work` returns; as [`crate::db::Db::read`].
    pub(crate) async fn read<T: Send + 'static>(
        self,
        app: &App,
        work: impl FnOnce(&mut Conn, DomainRow) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = move |conn: &mut Conn| {
            let domain = self.find(conn)?;
            work(conn, domain)
        };
        app.db.read(self.caller.holder, read).await
    }

    /// An audit row for a change of the domain by its owner.
    pub(super) fn event(self, action: &'static str, at: i64) -> Entry {
        self.caller.actor.event(action, self.id, Some(self.user), at)
    }
}
