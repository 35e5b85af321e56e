//! Which web page may read an answer (CORS, Fetch standard §3.3). An answer to a request with a domain's token or secret is
//! for pages of that domain's host only. Servers send no `Origin` and get none of these headers.
//!
//! A pre-flight carries no credentials, and a request may be refused before its domain is known. Pages of every registered
//! host may read those answers, which tell them nothing secret. Only a route that takes credentials of domains answers a
//! pre-flight, so that no page signs its visitors in. Pages of every origin may read public documents.
//!
//! A pre-flight of `/verify` belongs to an API behind a reverse proxy, which forwards pre-flights here instead of to the API.
//! A proxy that asks whether a pre-flight may pass gets the usual answer, because some proxies treat every 2xx as a yes.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::forwarded;
use super::routes::{Kind, Pages, Route};
use crate::app::App;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::DomainId;
use crate::locale::Message;

/// Headers that a page may send beside the safelisted ones (Fetch standard §2.2.2).
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, accept-language, if-match, x-request-id");
/// Headers that a page may read beside the safelisted ones.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, X-Secret-Expires, WWW-Authenticate, Deprecation, Sunset, Link",
);
/// Seconds for which a browser may cache a pre-flight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// Headers that a page may send to an API behind a proxy. The wildcard does not cover `Authorization` (Fetch standard §3.3.5).
const REQUEST_HEADERS_BEHIND_PROXY: HeaderValue =
    HeaderValue::from_static("authorization, content-type, accept-language, if-match, x-request-id, *");
/// All methods that an API behind a proxy may have.
const METHODS_BEHIND_PROXY: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// Stands for every origin.
const EVERY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

/// The web page behind a request that has an `Origin`.
pub(super) struct Page {
    /// `null`, which no domain has, if the request has several origins or one that is not ASCII.
    origin: HeaderValue,
    caller: Caller,
}

/// The domain whose token or secret the request has. An extractor sets it; `None` inside if the domain is not active.
#[derive(Clone, Default)]
struct Caller(Rc<OnceCell<Option<Arc<Domain>>>>);

/// Notes the domain whose token or secret a request has, even if the request is refused later. Does nothing for a request
/// without an `Origin`.
pub(super) fn note(req: &HttpRequest, app: &App, id: &DomainId) {
    if let Some(Caller(caller)) = req.extensions().get() {
        // A request has one domain.
        caller.get_or_init(|| app.directory.by_id(id).map(|live| live.domain));
    }
}

impl Page {
    /// The page that sent a request. [`note`] finds it in the request's extensions.
    pub(super) fn of(req: &ServiceRequest) -> Option<Page> {
        let origin = super::only(req.headers(), header::ORIGIN).transpose()?.ok();
        let origin = origin.filter(|origin| origin.to_str().is_ok()).cloned();
        let origin = origin.unwrap_or(HeaderValue::from_static("null"));
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
        let origin = match route.pages() {
            Pages::None => return None,
            Pages::All => EVERY_ORIGIN,
            Pages::OfDomains if app.directory.has_active_host(self.origin()) => self.origin.clone(),
            Pages::OfDomains => return Some(Err(self.unknown(app))),
        };
        let (methods, headers) = if !route.is(Kind::ProxyCheck) {
            (HeaderValue::try_from(route.methods()).expect("methods are ASCII"), REQUEST_HEADERS)
        } else if forwarded::has_appended_path(req.request()) || forwarded::is_question(req.headers()) {
            return None;
        } else {
            (METHODS_BEHIND_PROXY, REQUEST_HEADERS_BEHIND_PROXY)
        };
        let answer = HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .finish();
        Some(Ok(answer))
    }

    /// Lets the page read an answer, if it may.
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
        let is_known = over_https.is_some_and(|origin| app.directory.has_active_host(&origin));
        Error::Origin(if is_known { Message::HttpOrigin } else { Message::Origin })
    }

    fn origin(&self) -> &str {
        self.origin.to_str().unwrap_or_default()
    }
}

/// Lets pages of every origin read an answer.
pub(super) fn allow_every_page(headers: &mut HeaderMap) {
    expose(EVERY_ORIGIN, headers);
}

fn expose(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
}

/// Whether a browser sent a request. `Sec-Fetch-Mode` alone is no evidence: the `fetch` of Node.js sends it as well, but none
/// of the other headers.
pub(super) fn is_from_browser(headers: &HeaderMap) -> bool {
    const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    const OTHERS: [HeaderName; 3] =
        [HeaderName::from_static("sec-fetch-site"), HeaderName::from_static("sec-fetch-dest"), header::ORIGIN];
    headers.contains_key(MODE) && OTHERS.iter().any(|name| headers.contains_key(name))
}
