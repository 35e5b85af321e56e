//! The HTTP handlers, one file per group of URLs, and the bodies of their responses.
//!
//! A handler has its own wire structs. Database rows are never serialized, so a new column cannot leak.
//!
//! `#[utoipa::path]` demands a path. It is empty here: the table of routes in [`crate::server`] has the paths.

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

/// The body of a successful response with one object.
#[derive(Serialize, ToSchema)]
struct Answer<T: ToSchema> {
    /// The HTTP status.
    code: u16,
    /// Text for people, in the language of `Accept-Language`.
    message: &'static str,
    #[schema(schema_with = reference::<T>)]
    payload: T,
}

/// The body of a successful response with a list or a page of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct List<T: ToSchema> {
    /// 200.
    code: u16,
    /// Text for people, in the language of `Accept-Language`.
    message: &'static str,
    #[schema(schema_with = references::<T>)]
    payload: Vec<T>,
    /// The `cursor` of the next page. Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// Refers to a schema by name. utoipa would inline the schema of a generic member, and client generators would make a
/// separate type of each copy.
fn reference<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

fn references<T: ToSchema>() -> Array {
    Array::new(reference::<T>())
}

/// The body of a successful response without data.
#[derive(Serialize, ToSchema)]
struct Done {
    /// The HTTP status.
    code: u16,
    /// Text for people, in the language of `Accept-Language`.
    message: &'static str,
}

fn answer<T: Serialize + ToSchema>(status: StatusCode, message: Message, locale: Locale, payload: T) -> HttpResponse {
    let message = message.text(locale);
    HttpResponse::build(status).json(Answer { code: status.as_u16(), message, payload })
}

fn list<T: Serialize + ToSchema>(payload: Vec<T>, next_cursor: Option<String>, locale: Locale) -> HttpResponse {
    HttpResponse::Ok().json(List { code: 200, message: Message::Ok.text(locale), payload, next_cursor })
}

fn message_response(message: Message, locale: Locale) -> HttpResponse {
    HttpResponse::Ok().json(Done { code: 200, message: message.text(locale) })
}
