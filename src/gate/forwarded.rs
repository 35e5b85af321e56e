//! A reverse proxy's question about a request, as far as the proxy describes that request. By custom, nginx puts the target
//! into `X-Original-URI`, and Traefik and Caddy into `X-Forwarded-Uri`. Envoy can append the path to that of its question.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName};

/// Headers with the target of that request.
const TARGETS: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
];

/// The parameter of the pattern that matches an appended path.
pub(super) const APPENDED_PATH: &str = "below";

/// Whether a proxy appended the path of that request.
pub(crate) fn has_appended_path(question: &HttpRequest) -> bool {
    question.match_info().get(APPENDED_PATH).is_some()
}

/// Whether a request says that it is a proxy's question about another one.
pub(crate) fn is_question(headers: &HeaderMap) -> bool {
    TARGETS.iter().any(|name| headers.contains_key(name))
}

/// The queries of that request. Some programs end a query at `#`, others do not, so the part behind `#` is a query of its
/// own here.
pub(crate) fn queries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let targets = TARGETS.into_iter().flat_map(|name| headers.get_all(name));
    let queries = targets.flat_map(|target| target.as_bytes().splitn(2, |byte| *byte == b'?').skip(1));
    queries.flat_map(|query| query.split(|byte| *byte == b'#'))
}
