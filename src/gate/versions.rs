//! The API has one version. The headers of its answers announce the end of the version (RFC 9745, RFC 8594). From the
//! sunset on, the version answers 410.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};

use crate::app::App;
use crate::config::Config;
use crate::id::DomainId;
use crate::usage::Kind;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Whether a path, or the pattern of a route, is of version 1. Paths without a version, such as `/token`, do not end.
pub(crate) fn is_v1(path: &str) -> bool {
    path.starts_with("/v1/")
}

/// Whether a request is of version 1. Reads the path as the router does: `/%76%31/test` is below `/v1/`.
fn calls_v1(req: &HttpRequest) -> bool {
    is_v1(req.match_info().as_str())
}

/// Counts a request of a domain as use of its version.
pub(super) fn count(req: &HttpRequest, app: &App, domain: DomainId) {
    if calls_v1(req) {
        app.usage.count(domain, Kind::Version1, app.now());
    }
}

/// The end of the version of a request, if one is set.
pub(super) fn ending(req: &HttpRequest) -> Option<Arc<Ending>> {
    calls_v1(req).then(|| req.app_data().cloned())?
}

/// Whether the version of a request is gone.
pub(super) fn is_over(req: &HttpRequest, app: &App) -> bool {
    ending(req).is_some_and(|ending| ending.is_over(app.now()))
}

/// The end of a version, with the headers that announce it. The application data of a server has it as `Arc<Ending>`, if one
/// is set.
#[derive(Debug)]
pub struct Ending {
    announced_from: i64,
    sunset: Option<i64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Ending {
    /// The end of version 1. `None` if neither date is set.
    pub fn of_v1(config: &Config) -> Option<Ending> {
        let life = config.api_v1;
        let announced_from = match (life.deprecated, life.sunset) {
            (None, None) => return None,
            (None, Some(_)) => i64::MIN,
            (Some(from), _) => from,
        };
        let value = |text| HeaderValue::try_from(text).expect("dates, and a URL in visible ASCII");
        let dates = [
            ("deprecation", life.deprecated.map(|from| (DEPRECATION, format!("@{from}")))),
            ("sunset", life.sunset.map(|at| (SUNSET, http_date(at)))),
        ];
        let mut headers = Vec::new();
        for (relation, date) in dates {
            let Some((name, date)) = date else { continue };
            headers.push((name, value(date)));
            let link = |docs| format!("<{docs}>; rel=\"{relation}\"; type=\"text/html\"");
            headers.extend(config.api_v1_docs.as_ref().map(|docs| (header::LINK, value(link(docs)))));
        }
        Some(Ending { announced_from, sunset: life.sunset, headers })
    }

    /// Whether the version is gone at the time `now`.
    pub fn is_over(&self, now: i64) -> bool {
        self.sunset.is_some_and(|sunset| sunset <= now)
    }

    /// Adds the headers to an answer, from the date of the deprecation on.
    pub fn announce(&self, now: i64, headers: &mut HeaderMap) {
        if self.announced_from <= now {
            for (name, value) in &self.headers {
                headers.append(name.clone(), value.clone());
            }
        }
    }
}

fn http_date(at: i64) -> String {
    HttpDate::from(UNIX_EPOCH + Duration::from_secs(at.unsigned_abs())).to_string()
}
