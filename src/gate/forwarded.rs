//! The request that a reverse proxy asks about, as far as the proxy tells: nginx by custom in `X-Original-URI`, Traefik and
//! Caddy in `X-Forwarded-Uri`. Envoy does not.

use actix_web::http::header::{HeaderMap, HeaderName};

/// Headers with the target of that request.
const TARGETS: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
];

/// Whether a request says that it is a proxy's question about another one.
pub(crate) fn is_question(headers: &HeaderMap) -> bool {
    TARGETS.iter().any(|name| headers.contains_key(name))
}

/// The queries of the requests that a proxy asks about.
pub(crate) fn queries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let targets = TARGETS.into_iter().flat_map(|name| headers.get_all(name));
    targets.filter_map(|target| {
        let target = target.as_bytes().split(|byte| *byte == b'#').next()?;
        let question_mark = target.iter().position(|byte| *byte == b'?')?;
        target.get(question_mark + 1..)
    })
}
