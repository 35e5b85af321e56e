//! The middleware around every route: request id, answers to errors in the caller's language, security headers, counters,
//! access log, and a 500 instead of a dropped connection when a handler panics.

use std::any::Any;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::FutureExt;
use serde_json::json;

use super::address::Address;
use super::bearer::Bearer;
use super::cors::{self, Page};
use super::quota;
use super::routes::{Credentials, Kind, Operation, Pages, Route};
use super::versions::{self, Ending};
use crate::app::App;
use crate::config::{AccessLog, Config};
use crate::connections::{Exchange, Refusal};
use crate::error::{Error, Result};
use crate::locale::{Locale, Message};
use crate::logging;
use crate::reason::Reason;
use crate::shares::{Budget, Network};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Size in bytes of the parts of a large body.
const PART_SIZE: usize = 8 * 1024;

/// The facts about a request that are needed after the request was handed on.
struct Seen {
    started: Instant,
    id: HeaderValue,
    locale: Locale,
    method: &'static str,
    /// `None` where no path matches.
    route: Option<Rc<Route>>,
    /// For the log, and only where no route has the path.
    path: Option<String>,
    /// For the log.
    client: Option<IpAddr>,
    /// The web page that sent the request.
    page: Option<Page>,
    /// The end of the version of the API, if one is set.
    ending: Option<Arc<Ending>>,
}

/// Wraps a route, or the service that answers where no route matches.
///
/// # Errors
/// A complete answer of 500, for a handler that panicked.
pub(crate) async fn observe(
    mut req: ServiceRequest,
    next: Next<BoxBody>,
) -> std::result::Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(app) = req.app_data::<web::Data<App>>().cloned() else {
        return Err(Error::internal("web::Data<App> is missing from app_data").into());
    };
    let seen = Seen::of(&req, &app);
    if let Some(answer) = seen.without_handler(&app, &req) {
        let mut response = req.into_response(answer.unwrap_or_else(|error| seen.answer(&app, &error)));
        seen.finish(&app, response.response_mut());
        return Ok(response);
    }
    if let Some(operation) = seen.operation(&req) {
        req.head_mut().method = operation.method.clone();
    }
    match AssertUnwindSafe(next.call(req)).catch_unwind().await {
        Ok(Ok(response)) => {
            let mut response = response.map_body(|_, body| in_parts(body));
            if let Some(error) = response.response().error() {
                let answer = seen.answer_any(&app, error);
                response = response.into_response(answer);
            }
            quota::add_headers(&mut response);
            seen.finish(&app, response.response_mut());
            Ok(response)
        }
        Ok(Err(error)) => Err(seen.finished_error(&app, seen.answer_any(&app, &error))),
        Err(panic) => {
            let answer = seen.answer(&app, &Error::Internal(format!("panic: {}", panic_message(&*panic))));
            Err(seen.finished_error(&app, answer))
        }
    }
}

impl Seen {
    fn of(req: &ServiceRequest, app: &App) -> Seen {
        let route = req.app_data::<Rc<Route>>().cloned();
        let logged = app.config.access_log != AccessLog::Off;
        Seen {
            started: Instant::now(),
            id: request_id(req.headers()),
            locale: super::locale(req.request(), app),
            method: known_method(req.method()),
            path: (logged && route.is_none()).then(|| masked(req.path())),
            client: logged.then(|| Address::of(req.request(), &app.config).0).flatten(),
            page: Page::of(req),
            ending: versions::ending(req.request()),
            route,
        }
    }

    /// The route as metrics and logs name it. All paths without a route have one name: clients must not be able to add labels.
    fn label(&self) -> &'static str {
        self.route.as_ref().map_or("unmatched", |route| route.path)
    }

    fn operation(&self, req: &ServiceRequest) -> Option<&Operation> {
        self.route.as_ref()?.operation(req.method())
    }

    /// The answer to a request that needs no handler.
    fn without_handler(&self, app: &App, req: &ServiceRequest) -> Option<Result<HttpResponse>> {
        if let Some(refusal) = req.conn_data::<Rc<Exchange>>().and_then(|exchange| exchange.refusal()) {
            if refusal == Refusal::Malformed {
                app.metrics.malformed_heads.inc();
            }
            let peer = req.peer_addr().map_or_else(|| "an unknown address".to_owned(), |peer| peer.ip().to_string());
            log::debug!("refused the head of request {} from {peer}: {refusal}", self.id());
            return Some(Err(of_connection(refusal)));
        }
        if app.directory.is_stale() && !self.route.as_ref().is_some_and(|route| route.is(Kind::Status)) {
            return Some(Err(Error::Busy));
        }
        let route = self.route.as_ref()?;
        // Before the sunset is checked: a page whose pre-flight fails cannot read that the version is gone.
        if let Some(answer) = self.page.as_ref().and_then(|page| page.preflight(req, app, route)) {
            return Some(answer);
        }
        let operation = self.operation(req);
        // The extractor of a secret reads the body, counts the request for the domain, and then refuses it.
        let has_secret = operation.is_some_and(|operation| operation.credentials == Credentials::Secret);
        if !has_secret && self.ending.as_ref().is_some_and(|ending| ending.is_over(app.now())) {
            Bearer::count_refused(req.request(), app, &Error::Sunset);
            return Some(Err(Error::Sunset));
        }
        operation.is_none().then(|| Err(Error::MethodNotAllowed(route.methods())))
    }

    fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The answer to an error of a handler or of the framework.
    fn answer_any(&self, app: &App, error: &actix_web::Error) -> HttpResponse {
        match error.as_error::<Error>() {
            Some(error) => self.answer(app, error),
            None => self.answer(app, &of_framework(error)),
        }
    }

    /// The answer to an error. Counts it, and logs its cause if it is a bug or a fault of the server.
    fn answer(&self, app: &App, error: &Error) -> HttpResponse {
        app.metrics.refused(error.reason());
        if let Some(cause) = error.cause() {
            log::error!("{} {} failed, request {}: {cause}", self.method, self.label(), self.id());
        }
        let mut answer = error.answer(self.locale, Some(self.id()));
        answer.extensions_mut().insert(error.reason());
        answer
    }

    fn finish(&self, app: &App, response: &mut HttpResponse) {
        let status = response.status();
        if app.is_draining() || matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.id.clone());
        secure(headers, &app.config);
        match (self.route.as_ref().map(|route| route.pages()), &self.page) {
            (Some(Pages::All), _) => cors::allow_every_page(headers),
            (_, Some(page)) => page.allow(app, status, headers),
            (_, None) => {}
        }
        if let Some(ending) = &self.ending {
            ending.announce(app.now(), headers);
        }
        let took = self.started.elapsed();
        app.metrics.answered(self.label(), self.method, status.as_u16(), took);
        let wanted = match app.config.access_log {
            AccessLog::All => true,
            AccessLog::Errors => status.as_u16() >= 400,
            AccessLog::Off => false,
        };
        if wanted {
            self.log(app, response, took);
        }
    }

    fn finished_error(&self, app: &App, mut answer: HttpResponse) -> actix_web::Error {
        self.finish(app, &mut answer);
        InternalError::from_response("answered", answer).into()
    }

    /// Writes a line. Over the network's share of the log, the line is counted instead.
    fn log(&self, app: &App, response: &HttpResponse, took: Duration) {
        let status = response.status();
        let refused = status.is_client_error() || status.is_server_error();
        let network = Network::of(self.client);
        let budget = if refused { Budget::RefusalLines(network) } else { Budget::RequestLines(network) };
        if app.budgets.spend(budget, app.steady_now()).is_err() {
            app.metrics.left_out_log_lines.inc();
            app.left_out_lines.count(network);
            return;
        }
        logging::access(json!({
            "method": self.method,
            "route": self.label(),
            "path": self.path,
            "status": status.as_u16(),
            "reason": response.extensions().get::<Reason>().map(|reason| reason.as_str()),
            "ms": took.as_micros() as f64 / 1000.0,
            "client": self.client,
            "requestId": self.id(),
        }));
    }
}

/// Splits a large body: the connection copies each part before it writes the part.
fn in_parts(body: BoxBody) -> BoxBody {
    match body.size() {
        BodySize::Sized(size) if size > PART_SIZE as u64 => match body.try_into_bytes() {
            Ok(bytes) => BoxBody::new(Parts(bytes)),
            Err(body) => body,
        },
        _ => body,
    }
}

/// A body in parts of [`PART_SIZE`].
struct Parts(Bytes);

impl MessageBody for Parts {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Bytes, Infallible>>> {
        let size = self.0.len().min(PART_SIZE);
        Poll::Ready((size > 0).then(|| Ok(self.0.split_to(size))))
    }
}

/// Adds the headers that every answer has. The handler's own `Cache-Control` stays.
fn secure(headers: &mut HeaderMap, config: &Config) {
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "Origin, Authorization, Accept-Language"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    }
    if config.public_url.starts_with("https:") {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// The id that the client sent, so that a request can be followed through several services, or a new one. The id is logged,
/// so one that contains a credential is replaced.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let given = headers.get(&REQUEST_ID).filter(|value| {
        let text = value.to_str().unwrap_or_default();
        (1..=64).contains(&text.len()) && text.bytes().all(well_formed) && !has_credential(text)
    });
    given.cloned().unwrap_or_else(new_request_id)
}

/// Whether a text contains a client secret or the beginning of a token.
fn has_credential(text: &str) -> bool {
    text.contains("gbs_") || text.contains("eyJ")
}

/// A random number of this process and the number of the request. Unique, not secret.
fn new_request_id() -> HeaderValue {
    static PROCESS: LazyLock<u32> = LazyLock::new(|| {
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source answers");
        u32::from_be_bytes(random)
    });
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let mut id = String::with_capacity(24);
    write!(id, "{:08x}-{:x}", *PROCESS, REQUESTS.fetch_add(1, Ordering::Relaxed))
        .expect("writing to a String cannot fail");
    HeaderValue::try_from(id).expect("hexadecimal is a header value")
}

/// The error of a request whose head the connection refused.
fn of_connection(refusal: Refusal) -> Error {
    match refusal {
        Refusal::HeadTooLarge => Error::HeadTooLarge,
        Refusal::Malformed => Error::Malformed(Message::Malformed),
        Refusal::HeadTooSlow => Error::RequestTimeout,
    }
}

/// The error of a request that actix-web refused without a handler.
fn of_framework(error: &actix_web::Error) -> Error {
    match error.as_response_error().status_code() {
        StatusCode::NOT_FOUND => Error::NotFound(Message::NotFound),
        StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Error::MediaType(Message::SendJson),
        StatusCode::REQUEST_TIMEOUT => Error::RequestTimeout,
        status if status.is_client_error() => Error::Malformed(Message::Malformed),
        _ => Error::internal(error),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of an unknown kind")
}

/// The method as metrics and logs name it. All others have one name: clients must not be able to add labels.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// A path for the log, without the segments that could be a secret or a token.
fn masked(path: &str) -> String {
    let short: String = path.chars().take(200).collect();
    let is_secret = |segment: &str| segment.len() > 24 || has_credential(segment);
    let segments = short.split('/').map(|segment| if is_secret(segment) { "***" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}
