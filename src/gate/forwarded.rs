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

/// The queries of the requests that a proxy asks about. A `#` ends a query in some programs and is a part of it in others,
/// so what stands behind one is a query of its own here.
pub(crate) fn queries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let targets = TARGETS.into_iter().flat_map(|name| headers.get_all(name));
    let queries = targets.flat_map(|target| target.as_bytes().splitn(2, |byte| *byte == b'?').skip(1));
    queries.flat_map(|query| query.split(|byte| *byte == b'#'))
}
