//! Which web page may read an answer (CORS, Fetch standard §3.3): one of the host of the very domain whose token or secret
//! the request has, and no other. Servers send no `Origin` and get no header of these.
//!
//! A pre-flight carries neither token nor secret, and a refusal may come before either is known: those are for the pages
//! of every registered host. They say nothing that a stranger could not find out. A pre-flight is answered only for a route
//! that takes a domain's token or secret, so that no page signs its visitors in. Public documents are for every page.
//!
//! At `/verify`, a pre-flight is the one for an API behind a reverse proxy, which sends it here instead of to the API. A
//! proxy that asks whether a pre-flight may go on is answered as for any request, since some proxies take 204 for a yes.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::forwarded;
use super::routes::{FOR_PROXIES, Pages, Route};
use crate::app::App;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::DomainId;
use crate::locale::Message;

/// What a page may send beside what every page may.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, accept-language, if-match, x-request-id");
/// What a page may read beside what every page may.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, X-Secret-Expires, WWW-Authenticate, Deprecation, Sunset, Link",
);
/// Seconds that a browser may remember a pre-flight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What a page may send to an API behind a proxy. The wildcard does not cover `Authorization` (Fetch standard §3.3.5).
const REQUEST_HEADERS_BEHIND_PROXY: HeaderValue =
    HeaderValue::from_static("authorization, content-type, accept-language, if-match, x-request-id, *");
/// Only the API knows which of these it has.
const METHODS_BEHIND_PROXY: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// The origin that stands for every page.
const EVERY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// The web page behind a request that has an `Origin`.
pub(super) struct Page {
    /// `null`, which is nobody's, where there is more than one or one that is no text.
    origin: HeaderValue,
    caller: Caller,
}

/// The domain whose token or secret the request has, once an extractor has found out; inside, `None` when it is not live.
#[derive(Clone, Default)]
struct Caller(Rc<OnceCell<Option<Arc<Domain>>>>);

/// Tells whose token or secret a request has, whatever becomes of it. Does nothing for a request without an `Origin`.
pub(super) fn note(req: &HttpRequest, app: &App, id: &DomainId) {
    if let Some(Caller(caller)) = req.extensions().get() {
        // There is one proof in a request, so this is the first.
        caller.get_or_init(|| app.directory.by_id(id).map(|live| live.domain));
    }
}

impl Page {
    /// The page of a request, if it comes from one; from here on, [`note`] tells of it.
    pub(super) fn of(req: &ServiceRequest) -> Option<Page> {
        let mut origins = req.headers().get_all(header::ORIGIN);
        let origin = origins.next()?;
        let good = origins.next().is_none() && origin.to_str().is_ok();
        let origin = if good { origin.clone() } else { HeaderValue::from_static("null") };
        let caller = Caller::default();
        req.request().extensions_mut().insert(caller.clone());
        Some(Page { origin, caller })
    }

    /// The answer to a pre-flight, if the request is one.
    pub(super) fn preflight(&self, req: &ServiceRequest, app: &App, route: &Route) -> Option<Result<HttpResponse>> {
        let asks = req.method() == Method::OPTIONS && req.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let origin = match route.pages {
            Pages::None => return None,
            Pages::All => EVERY_ORIGIN,
            Pages::OfDomains if app.directory.has_active_host(self.origin()) => self.origin.clone(),
            Pages::OfDomains => return Some(Err(self.unknown(app))),
        };
        let (methods, headers) = match route.pattern {
            FOR_PROXIES if req.match_info().as_str() != FOR_PROXIES || forwarded::is_question(req.headers()) => {
                return None;
            }
            FOR_PROXIES => (METHODS_BEHIND_PROXY, REQUEST_HEADERS_BEHIND_PROXY),
            _ => (HeaderValue::try_from(route.methods()).expect("methods are ASCII"), REQUEST_HEADERS),
        };
        let answer = HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .finish();
        Some(Ok(answer))
    }

    /// Lets the page read an answer of that status, if it may.
    pub(super) fn allow(&self, app: &App, status: StatusCode, headers: &mut HeaderMap) {
        let allowed = match self.caller.0.get() {
            Some(Some(domain)) => Host::from_stored(domain.host.to_string()).matches_origin(self.origin()),
            Some(None) => false,
            None => status.as_u16() >= 400 && app.directory.has_active_host(self.origin()),
        };
        if allowed {
            expose(self.origin.clone(), headers);
        }
    }

    fn unknown(&self, app: &App) -> Error {
        let over_https = self.origin().strip_prefix("http://").map(|authority| format!("https://{authority}"));
        Error::Origin(match over_https.is_some_and(|origin| app.directory.has_active_host(&origin)) {
            true => Message::HttpOrigin,
            false => Message::Origin,
        })
    }

    fn origin(&self) -> &str {
        self.origin.to_str().unwrap_or_default()
    }
}

/// Lets every page read an answer.
pub(super) fn allow_every_page(headers: &mut HeaderMap) {
    expose(EVERY_ORIGIN, headers);
}

fn expose(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
}

/// Whether a browser sent a request, and not a server. The first header alone does not tell: the `fetch` of Node.js has it
/// too (`Sec-Fetch-Mode: cors`), but none of the others.
pub(super) fn is_from_browser(headers: &HeaderMap) -> bool {
    const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    const OTHERS: [HeaderName; 3] =
        [HeaderName::from_static("sec-fetch-site"), HeaderName::from_static("sec-fetch-dest"), header::ORIGIN];
    headers.contains_key(MODE) && OTHERS.iter().any(|name| headers.contains_key(name))
}
