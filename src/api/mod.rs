//! The handlers, one file per group of URLs, and the shape of their answers. Wire structs live beside their handler: a
//! row of the database is never serialised, so a new column cannot leak.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod domains;
mod etag;
pub(crate) mod issued;
pub(crate) mod openapi;
mod page;
pub(crate) mod posts;
pub(crate) mod secrets;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod usage;
pub(crate) mod verification;
pub(crate) mod verify;
pub(crate) mod well_known;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Array, Ref};

use crate::locale::{Locale, Message};

/// The body of a success.
#[derive(Serialize, ToSchema)]
struct Answer<T: ToSchema> {
    /// The HTTP status.
    code: u16,
    /// For people.
    message: &'static str,
    /// The data.
    #[schema(schema_with = reference::<T>)]
    payload: T,
}

/// The body of a success that shows a list, or part of a long one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct List<T: ToSchema> {
    /// 200.
    code: u16,
    /// For people.
    message: &'static str,
    /// The items.
    #[schema(schema_with = references::<T>)]
    payload: Vec<T>,
    /// Pass it as `cursor` for the next part; absent after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// Refers to a schema by its name. A generic member would repeat the whole schema, and each copy would become a type of its
/// own in generated clients.
fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

fn references<T: ToSchema>() -> Array {
    Array::new(reference::<T>())
}

/// The body of a success that has nothing to show.
#[derive(Serialize, ToSchema)]
struct Done {
    /// The HTTP status.
    code: u16,
    /// For people.
    message: &'static str,
}

fn answer<T: Serialize + ToSchema>(status: StatusCode, message: Message, locale: Locale, payload: T) -> HttpResponse {
    let message = message.text(locale);
    HttpResponse::build(status).json(Answer { code: status.as_u16(), message, payload })
}

fn list<T: Serialize + ToSchema>(payload: Vec<T>, next_cursor: Option<String>, locale: Locale) -> HttpResponse {
    HttpResponse::Ok().json(List { code: 200, message: Message::Ok.text(locale), payload, next_cursor })
}

fn done(message: Message, locale: Locale) -> HttpResponse {
    HttpResponse::Ok().json(Done { code: 200, message: message.text(locale) })
}
