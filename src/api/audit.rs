//! The audit log as a user sees it: what was done to the own account, domains and posts, by whom and from where.

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::page::{PageQuery, Part};
use crate::app::App;
use crate::db::audit::{self, Row};
use crate::error::Result;
use crate::gate::bearer::UserToken;
use crate::id::UserId;
use crate::locale::Locale;

/// Something that was done. Without the row's number, which no other route takes.
#[derive(Serialize, ToSchema)]
struct Event {
    /// Unix seconds.
    at: i64,
    /// Who did it: `usr_...`, `dom_...`, `anyone` (without a token), `operator`, `server`, or `other` (another user).
    actor: String,
    /// The network address that it came from, if it came from one and not from another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    /// What was done, such as `domain.registered`.
    action: String,
    /// What it was done to: a public id or a number.
    target: String,
    /// What else is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    detail: Option<Value>,
}

impl Event {
    /// The row as that tenant may see it: who proved a host is nothing to the one who lost it.
    fn of(row: Row, tenant: UserId) -> Event {
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

/// List what was done to the own account, domains and posts, newest first.
#[utoipa::path(
    tag = "accounts",
    operation_id = "listAudit",
    params(PageQuery),
    responses((status = 200, description = "What was done, the newest first", body = super::List<Event>)),
    security(("userToken" = []))
)]
#[get("/audit")]
pub(crate) async fn list(
    token: UserToken,
    req: actix_web::HttpRequest,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let part = Part::parse(req.query_string())?;
    let tenant = token.tenant();
    let rows = app.db.read(token.holder(), move |conn| Ok(audit::list(conn, tenant, part.page())?)).await?;
    let (rows, next_cursor) = part.cut(rows, |row| row.id);
    let events = rows.into_iter().map(|row| Event::of(row, tenant)).collect();
    Ok(super::list(events, next_cursor, locale))
}
