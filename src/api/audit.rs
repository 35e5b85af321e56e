//! A user's part of the audit log: events of the caller's account, domains and posts.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::page::{PageQuery, PageRequest};
use crate::app::App;
use crate::db::audit::{self, AuditRow};
use crate::error::Result;
use crate::gate::bearer::UserToken;
use crate::id::UserId;
use crate::locale::Locale;

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

impl Event {
    /// The row as `tenant` may see it: who took over a host is not shown to the user who lost it.
    fn of(row: AuditRow, tenant: UserId) -> Event {
        let is_another = row.actor.starts_with("usr_") && row.actor != tenant.to_string();
        Event {
            at: row.at,
            actor: if is_another { "other".to_owned() } else { row.actor },
            address: row.address.filter(|_| !is_another),
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
pub(crate) async fn list(
    token: UserToken,
    req: actix_web::HttpRequest,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let part = PageRequest::parse(req.query_string())?;
    let tenant = token.tenant();
    let rows = app.db.read(token.holder(), move |conn| Ok(audit::list(conn, tenant, part.page())?)).await?;
    let (rows, next_cursor) = part.cut(rows, |row| row.id);
    let events = rows.into_iter().map(|row| Event::of(row, tenant)).collect();
    Ok(super::list(events, next_cursor, locale))
}
