//! Extractors that authenticate a request, extractors of bodies, and the middleware. Nothing here queries the database.

pub mod address;
pub mod bearer;
pub mod body;
pub mod client;
mod cors;
pub(crate) mod forwarded;
pub mod observe;
mod own;
mod quota;
pub mod routes;
pub mod versions;

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::ACCEPT_LANGUAGE;
use actix_web::{FromRequest, HttpRequest, web};

use crate::app::App;
use crate::error::{Error, Result};
use crate::locale::Locale;

/// The [`App`] of the actix-web application. It is missing only if the application is set up wrongly.
fn app(req: &HttpRequest) -> Result<&App> {
    let app = req.app_data::<web::Data<App>>().map(web::Data::get_ref);
    app.ok_or_else(|| Error::internal("web::Data<gatebird::App> is missing from the actix-web App's app_data"))
}

/// The language of `Accept-Language`, or `DEFAULT_LOCALE`.
fn locale(req: &HttpRequest, app: &App) -> Locale {
    let asked = req.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    asked.and_then(Locale::negotiate).unwrap_or(app.config.default_locale)
}

impl FromRequest for Locale {
    type Error = Error;
    type Future = Ready<Result<Locale>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(app(req).map(|app| locale(req, app)))
    }
}
