//! The audit log, for users.

use crate::app::{App, TokenCaller};
use crate::db::Page;
use crate::db::audit::{self, AuditRow};
use crate::error::Result;

/// Returns a page of the events of the caller's account, domains and posts. The rows do not show another user: who took
/// over a host is not shown to the user who lost it.
///
/// # Errors
/// As [`App::read`].
pub(crate) async fn list(app: &App, caller: TokenCaller, page: Page) -> Result<Vec<AuditRow>> {
    let mut rows = app.read(caller, move |conn, user| audit::list(conn, user, page)).await?;
    let own = caller.user().to_string();
    for row in rows.iter_mut().filter(|row| row.actor.starts_with("usr_") && row.actor != own) {
        row.actor = "other".to_owned();
        row.address = None;
    }
    Ok(rows)
}
