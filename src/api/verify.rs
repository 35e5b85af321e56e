//! `/verify`: forward authentication for reverse proxies: nginx `auth_request`, ForwardAuth of Traefik and Caddy, Envoy
//! `ext_authz` and HAProxy. `deploy/` has configurations.
//!
//! **Method and path.** Some proxies keep the method of the caller's request, and some append its path. So `/verify` and all
//! paths below it behave alike for every method.
//!
//! **Requirements.** The operator states requirements for the token in the query, or in headers that the proxy sets. A caller
//! must not be able to state them. So a requirement is refused if it is also in the caller's own query, or if a path
//! was appended, because then the query is the caller's. A header can only add requirements, because a caller can send
//! it through a proxy that does not set it.
//!
//! **Preflights.** A browser sends no token with a preflight. The configurations in `deploy/` forward it as
//! `OPTIONS /verify` instead of to the API, and return the answer of [`crate::gate`] to the browser. The request that follows
//! still needs its token.

use std::borrow::Cow;
use std::sync::Once;

use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::forwarded;
use crate::host::Host;
use crate::locale::Message;

/// All characters except the unreserved ones of RFC 3986 §2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The operator's requirements for the token.
#[derive(Default, IntoParams)]
#[into_params(parameter_in = Query)]
struct Requirements<'a> {
    /// Scopes that the token must have, separated by spaces.
    #[param(required = false, pattern = "\\S")]
    scope: Option<Cow<'a, str>>,
    /// The audience that the token must have. Defaults to the issuer, or to the account audience for a user token.
    #[param(required = false, pattern = "\\S")]
    audience: Option<Cow<'a, str>>,
    /// The host that the token's domain must have. A default port may be given or left out. Control of the host must be
    /// verified unless `UNVERIFIED_HOSTS` is `allow`.
    #[param(required = false, pattern = "\\S")]
    host: Option<Cow<'a, str>>,
}

/// Prefix of the headers in which a proxy states requirements. The name of the query parameter follows.
const REQUIREMENT_PREFIX: &str = "x-gatebird-require-";

impl<'a> Requirements<'a> {
    /// Reads the requirements in the query, which must not be the caller's.
    fn from_query(req: &'a HttpRequest) -> Result<Requirements<'a>> {
        let query = req.query_string();
        if forwarded::has_appended_path(req) {
            return if pairs(query.as_bytes()).any(|(name, _)| Requirements::default().place(&name).is_some()) {
                Err(stated_by_caller())
            } else {
                Ok(Requirements::default())
            };
        }
        let mut requirements = Requirements::default();
        for pair in pairs(query.as_bytes()) {
            if forwarded::queries(req.headers()).any(|of_caller| pairs(of_caller).any(|other| other == pair)) {
                return Err(stated_by_caller());
            }
            requirements.add(&pair.0, pair.1)?;
        }
        Ok(requirements)
    }

    fn from_headers(headers: &'a HeaderMap) -> Result<Requirements<'a>> {
        let mut requirements = Requirements::default();
        for (header, value) in headers {
            if let Some(name) = header.as_str().strip_prefix(REQUIREMENT_PREFIX) {
                let value = value.to_str().map_err(|_| Error::Malformed(Message::Malformed))?;
                requirements.add(name, value.into())?;
            }
        }
        Ok(requirements)
    }

    /// Adds a requirement. An unknown, empty or repeated one is an error, because it must not be ignored.
    fn add(&mut self, name: &str, value: Cow<'a, str>) -> Result<()> {
        let place = self.place(name).filter(|place| place.is_none() && !value.trim().is_empty());
        *place.ok_or(Error::Malformed(Message::Malformed))? = Some(value);
        Ok(())
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        match name {
            "scope" => Some(&mut self.scope),
            "audience" => Some(&mut self.audience),
            "host" => Some(&mut self.host),
            _ => None,
        }
    }

    /// The error for the first requirement that the bearer does not meet.
    fn unmet(&self, bearer: &Bearer, app: &App) -> Option<Error> {
        if self.audience.as_ref().is_some_and(|audience| !bearer.is_for(audience)) {
            return Some(Error::TokenInvalid);
        }
        let mut scopes = self.scope.iter().flat_map(|scopes| scopes.split_ascii_whitespace());
        if !scopes.all(|scope| bearer.allows(scope)) {
            return Some(Error::LacksScope);
        }
        let host = self.host.as_ref()?;
        match bearer.domain() {
            Some(domain) if Host::from_stored(domain.host.to_string()).is_named(host) => {
                (!domain.host_verified && app.config.refuse_unverified_hosts).then_some(Error::HostUnverified)
            }
            _ => Some(Error::WrongHost),
        }
    }
}

fn pairs(query: &[u8]) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query)
}

/// The refusal of a requirement that the caller may have stated. Logs the remedy for the operator once.
fn stated_by_caller() -> Error {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        log::warn!(
            "a request to /verify is refused: the reverse proxy passes on the caller's query. Let it request a fixed target, \
             such as /verify? with an empty query, and state requirements in X-Gatebird-Require-Scope, -Audience and -Host"
        );
    });
    Error::Malformed(Message::RequirementOfCaller)
}

/// Verify a token for a reverse proxy.
///
/// The token is read from `Authorization` only. The response states the identity in `X-Gatebird-User`, `-Nick`
/// (percent-encoded UTF-8), `-Domain`, `-Host`, `-Host-Verified` (`true` or `false`), `-Scope` and `-Token-Expires`
/// (Unix seconds). Every header is always set, if only to an empty value, so that it replaces one that the caller
/// invented. Refusals are 401 or 403, with the reason in `X-Gatebird-Reason`. Every method and every path below this
/// one behaves alike. The headers `X-Gatebird-Require-Scope`, `-Audience` and `-Host` add to the requirements of the
/// query.
#[utoipa::path(
    get, path = "", tag = "token",
    operation_id = "verifyToken",
    params(Requirements),
    responses(
        (status = 200, description = "The token is valid; the headers state the identity"),
        (status = 401, description = "No token, or one that is not valid, revoked or expired", body = crate::error::ErrorBody),
        (
            status = 403,
            description = "The token does not meet the requirements, or its domain is over its limit",
            body = crate::error::ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait, at least 1, of a domain over its limit")),
        ),
    ),
)]
pub(crate) async fn verify(req: HttpRequest, app: web::Data<App>) -> Result<HttpResponse> {
    let bearer = admitted(&req, &app).map_err(|error| Error::AtProxy(Box::new(error)))?;
    let claims = bearer.claims();
    let host = bearer.domain().map_or("", |domain| &domain.host);
    let is_verified = bearer.domain().is_some_and(|domain| domain.host_verified);
    let nick = utf8_percent_encode(&claims.nick, ENCODED);
    let headers = [
        ("X-Gatebird-User", claims.id.to_string().into()),
        ("X-Gatebird-Nick", nick.to_string().into()),
        ("X-Gatebird-Domain", claims.client_id.clone().unwrap_or_default()),
        ("X-Gatebird-Host", Cow::Borrowed(host)),
        ("X-Gatebird-Host-Verified", Cow::Borrowed(if is_verified { "true" } else { "false" })),
        ("X-Gatebird-Scope", Cow::Borrowed(claims.scope.as_ref())),
        ("X-Gatebird-Token-Expires", claims.exp.to_string().into()),
    ];
    let mut answer = HttpResponse::Ok();
    for (name, value) in headers {
        answer.insert_header((name, HeaderValue::try_from(value.as_ref()).map_err(Error::internal)?));
    }
    Ok(answer.finish())
}

/// The caller, if the token meets every requirement.
fn admitted(req: &HttpRequest, app: &App) -> Result<Bearer> {
    let (from_query, from_headers) = (Requirements::from_query(req)?, Requirements::from_headers(req.headers())?);
    let bearer = Bearer::presented(req, app, from_query.audience.as_deref())?;
    let unmet = from_query.unmet(&bearer, app).or_else(|| from_headers.unmet(&bearer, app));
    bearer.unless(req, unmet)
}
