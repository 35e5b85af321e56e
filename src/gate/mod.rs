//! Extractors that authenticate a request, extractors of bodies, and the middleware. Nothing here queries the database.

/// Makes a type a handler's parameter, by a function of the request. The future is `Ready`, so the function cannot query the
/// database.
macro_rules! extract {
    ($type:ty $(where $parameter:ident: $bound:path)?, $of:expr) => {
        impl$(<$parameter: $bound>)? actix_web::FromRequest for $type {
            type Error = $crate::error::Error;
            type Future = std::future::Ready<$crate::error::Result<Self>>;

            fn from_request(req: &actix_web::HttpRequest, _: &mut actix_web::dev::Payload) -> Self::Future {
                std::future::ready($of(req))
            }
        }
    };
}

pub mod address;
pub mod bearer;
pub mod body;
pub mod client;
mod cors;
pub mod credentials;
pub(crate) mod forwarded;
pub mod observe;
mod own;
mod quota;
pub mod routes;
pub mod versions;

use actix_web::http::header::{ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};

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

fn locale_of(req: &HttpRequest) -> Result<Locale> {
    Ok(locale(req, app(req)?))
}

extract!(Locale, locale_of);

/// The error of a repeated header.
struct Repeated;

/// The value of a header that must not be repeated.
fn only(headers: &HeaderMap, name: HeaderName) -> std::result::Result<Option<&HeaderValue>, Repeated> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(first) }
}
