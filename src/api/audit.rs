//! A user's part of the audit log: events of the caller's account, domains and posts.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Context;
use super::page::{PageQuery, PageRequest};
use crate::actions::audit;
use crate::db::audit::AuditRow;
use crate::error::Result;
use crate::gate::bearer::UserToken;

/// An event of the audit log. The row's number is left out, because no other route takes it.
#[derive(Serialize, ToSchema)]
struct Event {
    /// Unix seconds.
    at: i64,
    /// `usr_...`, `dom_...`, `anyone` (without a token), `operator`, `server`, or `other` (another user).
    actor: String,
    /// The network address of the actor, if known. Never that of another user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    /// Such as `domain.registered`.
    action: String,
    /// A public id or a number.
    target: String,
    /// Further facts, which depend on the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    detail: Option<Value>,
}

impl From<AuditRow> for Event {
    fn from(row: AuditRow) -> Event {
        Event {
            at: row.at,
            actor: row.actor,
            address: row.address,
            action: row.action,
            target: row.target,
            detail: row.detail.and_then(|detail| serde_json::from_str(&detail).ok()),
        }
    }
}

/// List the events of the caller's account, domains and posts, newest first.
#[utoipa::path(
    get, path = "", tag = "accounts",
    operation_id = "listAudit",
    params(PageQuery),
    responses((status = 200, description = "The events, newest first", body = super::List<Event>)),
)]
pub(crate) async fn list(token: UserToken, request: PageRequest, context: Context) -> Result<HttpResponse> {
    let rows = audit::list(&context.app, token.caller(), request.page()).await?;
    let (rows, next_cursor) = request.cut(rows, |row| row.id);
    Ok(context.page(rows.into_iter().map(Event::from), next_cursor))
}
