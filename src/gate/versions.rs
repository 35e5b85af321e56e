//! Versions of the API and their ends. The headers of every answer of a version announce its end (RFC 9745, RFC 8594). From
//! its sunset on, the version answers 410.

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

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// All paths below `/v1/`.
    V1,
}

impl Version {
    /// The version of a path, or of the pattern of a route: its first segment. Paths without a version, such as `/token`, do
    /// not end.
    pub fn of_path(path: &str) -> Option<Version> {
        path.starts_with("/v1/").then_some(Version::V1)
    }

    /// As it stands in paths: `v1`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1 => "v1",
        }
    }
}

/// The version of a request. Reads the path as the router does: `/%76%31/test` is below `/v1/`.
fn version(req: &HttpRequest) -> Option<Version> {
    Version::of_path(req.match_info().as_str())
}

/// Counts a request of a domain as use of its version.
pub(super) fn count(req: &HttpRequest, app: &App, domain: DomainId) {
    match version(req) {
        Some(Version::V1) => app.usage.count(domain, Kind::Version1, app.now()),
        None => {}
    }
}

/// The end of the version of a request, if one is set.
pub(super) fn ending(req: &HttpRequest) -> Option<Arc<Ending>> {
    let Version::V1 = version(req)?;
    req.app_data().cloned()
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
        let link = |relation: &str| {
            let docs = config.api_v1_docs.as_ref()?;
            Some((header::LINK, format!("<{docs}>; rel=\"{relation}\"; type=\"text/html\"")))
        };
        let mut headers = Vec::new();
        if let Some(from) = life.deprecated {
            headers.push((DEPRECATION, format!("@{from}")));
            headers.extend(link("deprecation"));
        }
        if let Some(at) = life.sunset {
            let at = UNIX_EPOCH + Duration::from_secs(at.unsigned_abs());
            headers.push((SUNSET, HttpDate::from(at).to_string()));
            headers.extend(link("sunset"));
        }
        let value = |text| HeaderValue::try_from(text).expect("dates, and a URL in visible ASCII");
        let headers = headers.into_iter().map(|(name, text)| (name, value(text))).collect();
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
