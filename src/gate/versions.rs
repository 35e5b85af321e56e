//! Versions of the API, and how one ends: it is announced in the headers of its answers (RFC 9745, RFC 8594), and from its
//! sunset on it is gone.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate};
use actix_web::{HttpRequest, web};

use super::routes::Routes;
use crate::app::App;
use crate::config::Config;
use crate::id::DomainId;
use crate::usage::Kind;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// What lies under `/v1/`.
    V1,
}

impl Version {
    /// The version that a path, or the pattern of a route, belongs to. The issuer's own endpoints, such as `/token`, have
    /// none and do not end.
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

/// Counts a request of that domain for the version that it was for, if for one.
pub(super) fn count(req: &HttpRequest, app: &App, domain: DomainId) {
    match Version::of_path(req.match_info().as_str()) {
        Some(Version::V1) => app.usage.count(domain, Kind::Version1, app.now()),
        None => {}
    }
}

/// Whether the version that a request is for is gone.
pub(super) fn is_over(req: &HttpRequest, app: &App) -> bool {
    let routes = req.app_data::<web::Data<Routes>>();
    let ending = routes.and_then(|routes| routes.ending(req.match_info().as_str()));
    ending.is_some_and(|ending| ending.is_over(app.now()))
}

/// The end of a version that has been set, with the headers that announce it.
#[derive(Debug)]
pub struct Ending {
    announced_from: i64,
    sunset: Option<i64>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Ending {
    /// That of version 1; `None` when neither date is set.
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

    /// Whether the version is gone at that time.
    pub fn is_over(&self, now: i64) -> bool {
        self.sunset.is_some_and(|sunset| sunset <= now)
    }

    /// Tells of it in an answer, if it is to be told at that time.
    pub fn announce(&self, now: i64, headers: &mut HeaderMap) {
        if self.announced_from <= now {
            for (name, value) in &self.headers {
                headers.append(name.clone(), value.clone());
            }
        }
    }
}
