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

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Array, Ref};

use crate::app::App;
use crate::error::{Error, Result};
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

/// What a handler needs beside credentials and input: the app, and the language of the response.
pub(crate) struct Context {
    app: web::Data<App>,
    locale: Locale,
}

impl FromRequest for Context {
    type Error = Error;
    type Future = Ready<Result<Context>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let app = web::Data::from_request(req, payload).into_inner().map_err(Error::internal);
        let locale = Locale::from_request(req, payload).into_inner();
        ready(app.and_then(|app| Ok(Context { app, locale: locale? })))
    }
}

impl Context {
    fn done(&self, message: Message) -> HttpResponse {
        HttpResponse::Ok().json(Done { code: 200, message: message.text(self.locale) })
    }

    fn answer<T: Serialize + ToSchema>(&self, status: StatusCode, message: Message, payload: T) -> HttpResponse {
        let message = message.text(self.locale);
        HttpResponse::build(status).json(Answer { code: status.as_u16(), message, payload })
    }

    fn list<T: Serialize + ToSchema>(&self, items: impl IntoIterator<Item = T>) -> HttpResponse {
        self.page(items, None)
    }

    fn page<T: Serialize + ToSchema>(
        &self,
        items: impl IntoIterator<Item = T>,
        next_cursor: Option<String>,
    ) -> HttpResponse {
        let (message, payload) = (Message::Ok.text(self.locale), items.into_iter().collect());
        HttpResponse::Ok().json(List { code: 200, message, payload, next_cursor })
    }
}
