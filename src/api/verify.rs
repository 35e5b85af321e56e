//! `GET /verify`: a reverse proxy asks who calls, and whether it may go on. Works with nginx `auth_request`, Traefik
//! ForwardAuth and Envoy `ext_authz`; see `deploy/`.
//!
//! Pre-flights: a browser sends no token with one, so with the files of `deploy/` it is refused like everything without a
//! token, 401 `missing`, and pages cannot call the API behind. An API that pages are to call answers pre-flights itself,
//! on a path without the gate, for OPTIONS only; the request that follows still needs its token. `/verify` has no OPTIONS,
//! so a proxy that keeps the caller's method when it asks is refused, never let through by the 204 of a pre-flight.

use std::borrow::Cow;

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse, get, web};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::host::Host;
use crate::locale::Message;

/// All but the unreserved characters of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the proxy demands of the token.
#[derive(Default, IntoParams)]
#[into_params(parameter_in = Query)]
struct Demands<'a> {
    /// Scopes, separated by spaces, which the token has to carry all.
    #[param(required = false, pattern = "\\S")]
    scope: Option<Cow<'a, str>>,
    /// The audience that the token has to be for; the issuer if absent.
    #[param(required = false, pattern = "\\S")]
    audience: Option<Cow<'a, str>>,
    /// The host that the token's domain has to have, with its default port or without.
    #[param(required = false, pattern = "\\S")]
    host: Option<Cow<'a, str>>,
}

impl<'a> Demands<'a> {
    /// Reads them strictly: a demand that is not understood must not be passed over.
    fn parse(query: &'a str) -> Result<Demands<'a>> {
        let mut demands = Demands::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "scope" => &mut demands.scope,
                "audience" => &mut demands.audience,
                "host" => &mut demands.host,
                _ => return Err(Error::Malformed(Message::Malformed)),
            };
            if value.trim().is_empty() || place.replace(value).is_some() {
                return Err(Error::Malformed(Message::Malformed));
            }
        }
        Ok(demands)
    }
}

/// Tell a reverse proxy who calls.
///
/// The token is read from `Authorization` alone. The identity stands in `X-Gatebird-User`, `-Nick` (percent-encoded UTF-8),
/// `-Domain`, `-Host`, `-Scope` and `-Token-Expires` (Unix seconds); all are always there, and empty where the token has no
/// such thing, so that they replace whatever a caller invented. Refusals are 401 or 403 only, with `X-Gatebird-Reason`.
#[utoipa::path(
    tag = "token",
    operation_id = "verifyToken",
    params(Demands),
    responses(
        (status = 200, description = "Go on; the identity is in the headers"),
        (status = 401, description = "No token, or one that is not valid, revoked or expired", body = crate::error::ErrorBody),
        (status = 403, description = "The token does not meet the demands, or its domain is over its limit", body = crate::error::ErrorBody),
    ),
    security(("token" = []))
)]
#[get("/verify")]
pub(crate) async fn verify(req: HttpRequest, app: web::Data<App>) -> Result<HttpResponse> {
    let bearer = admitted(&req, &app).map_err(|error| Error::AtProxy(Box::new(error)))?;
    let claims = bearer.claims();
    let host = bearer.domain().map_or("", |domain| &domain.host);
    let nick = utf8_percent_encode(&claims.nick, ENCODED);
    let headers = [
        ("X-Gatebird-User", claims.id.to_string().into()),
        ("X-Gatebird-Nick", nick.to_string().into()),
        ("X-Gatebird-Domain", claims.client_id.clone().unwrap_or_default()),
        ("X-Gatebird-Host", Cow::Borrowed(host)),
        ("X-Gatebird-Scope", Cow::Borrowed(claims.scope.as_ref())),
        ("X-Gatebird-Token-Expires", claims.exp.to_string().into()),
    ];
    let mut answer = HttpResponse::Ok();
    for (name, value) in headers {
        answer.insert_header((name, HeaderValue::try_from(value.as_ref()).map_err(Error::internal)?));
    }
    Ok(answer.finish())
}

/// The caller, if it meets every demand.
fn admitted(req: &HttpRequest, app: &App) -> Result<Bearer> {
    let demands = Demands::parse(req.query_string())?;
    let bearer = Bearer::presented(req, app, demands.audience.as_deref().unwrap_or(&app.config.issuer))?;
    let scopes = demands.scope.as_deref().unwrap_or_default();
    if !scopes.split_ascii_whitespace().all(|scope| bearer.allows(scope)) {
        return Err(bearer.refused(req, Error::LacksScope));
    }
    let is_of = |host: &Cow<'_, str>| {
        bearer.domain().is_some_and(|domain| Host::from_stored(domain.host.to_string()).is_named(host))
    };
    match demands.host.as_ref().is_none_or(is_of) {
        true => Ok(bearer),
        false => Err(bearer.refused(req, Error::WrongHost)),
    }
}
