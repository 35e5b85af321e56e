//! Telling the other nodes which client assertions were used here; they read it with the directory's difference.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{App, upkeep};
use crate::db::used_assertion::{self, UsedAssertion};
use crate::error::Result;
use crate::exit::Exit;

/// Others read once a second, and are promised to know within two.
const EVERY: Duration = Duration::from_millis(500);
/// How long the end of the process waits for the database.
const PATIENCE: Duration = Duration::from_secs(3);
/// So many are written in one transaction, which holds the lock on the revision for some milliseconds.
const AT_ONCE: usize = 500;

/// Does it on a thread of its own, where there may be others.
pub(super) fn keep_sharing(app: &Arc<App>) -> std::result::Result<(), Exit> {
    match app.directory.used_assertions.are_shared() {
        true => {
            upkeep::repeat("sharing used assertions", EVERY, Arc::downgrade(app), |app| app.share_used_assertions())
        }
        false => Ok(()),
    }
}

impl App {
    /// Writes the assertions that were used here and that other nodes cannot know of yet.
    ///
    /// # Errors
    /// When the database does not answer; what is left is written the next time.
    pub fn share_used_assertions(&self) -> Result<()> {
        let used = &self.directory.used_assertions;
        loop {
            let row = |(fingerprint, tenant, expires_at)| UsedAssertion { fingerprint, tenant, expires_at };
            let rows: Vec<UsedAssertion> = used.untold(AT_ONCE).into_iter().map(row).collect();
            if rows.is_empty() {
                return Ok(());
            }
            self.db.change_now(|conn| Ok(used_assertion::insert(conn, &rows)?), |_| Ok(()))?;
            used.told(rows.iter().map(|row| &row.fingerprint));
        }
    }
    /// The same for the last time. On a thread of its own, because a database that hangs must not keep the process from
    /// ending.
    pub(crate) fn share_the_last(self: Arc<App>) {
        let (sender, outcome) = channel();
        std::thread::spawn(move || sender.send(self.share_used_assertions()));
        if !matches!(outcome.recv_timeout(PATIENCE), Ok(Ok(()))) {
            log::warn!("other nodes have not been told of every used assertion");
        }
    }
}
