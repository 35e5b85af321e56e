//! [`Bearer`]: a verified token as a handler's parameter.
//!
//! The extractors work in every actix-web application that has the [`App`] as data. [`crate::server::serve`] adds routes to
//! Gatebird's own instead.
//!
//! ```no_run
//! use actix_web::{HttpServer, get};
//! use gatebird::gate::bearer::Bearer;
//! use gatebird::{App, Config};
//!
//! /// Answers 401 or 419 by itself when there is no good token.
//! #[get("/orders")]
//! async fn orders(token: Bearer) -> String {
//!     format!("orders of user {}", token.tenant().get())
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let gate = App::start(Config::read()?)?;
//!     HttpServer::new(move || actix_web::App::new().app_data(gate.clone()).service(orders))
//!         .bind("127.0.0.1:8080")?
//!         .run()
//!         .await?;
//!     Ok(())
//! }
//! ```
//!
//! The future of every extractor is [`Ready`], so that none can query the database.

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest};

use super::address::Address;
use super::routes::Limit;
use super::{app, cors, quota, versions};
use crate::actions::accounts::SignedIn;
use crate::app::{App, TokenCaller, TokenGeneration};
use crate::directory::{Domain, Tenant};
use crate::error::{Error, Result};
use crate::id::{TokenId, UserId};
use crate::locale::Message;
use crate::plan::Plan;
use crate::shares::Budget;
use crate::token::{self, Claims, Subject, VerifiedToken};
use crate::usage::Kind;

/// An access token or a user token that is valid, not revoked and within its limit. Otherwise the answer is 401, 419 for a
/// token that has only expired, or 429 over the [`Limit`] of the route.
#[derive(Debug)]
pub struct Bearer {
    token: Arc<VerifiedToken>,
    tenant: Arc<Tenant>,
    domain: Option<Arc<Domain>>,
    address: Address,
}

impl Bearer {
    /// The tenant whose data the caller may see.
    pub fn tenant(&self) -> UserId {
        self.tenant.id
    }

    /// The tenant as it is now. The claims say what it was when the token was issued.
    pub fn user(&self) -> &Tenant {
        &self.tenant
    }

    /// The domain of an access token. `None` for a user token.
    pub fn domain(&self) -> Option<&Domain> {
        self.domain.as_deref()
    }

    /// The claims of the token.
    pub fn claims(&self) -> &Claims<'static> {
        &self.token.claims
    }

    /// Whether the token has that scope.
    pub fn allows(&self, scope: &str) -> bool {
        self.token.allows(scope)
    }

    /// Whether the token is for that audience.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        self.token.is_for(audience)
    }

    /// The caller, for [`App::write`].
    pub fn caller(&self) -> TokenCaller {
        let token = TokenGeneration {
            id: self.token.id,
            user: self.tenant.id,
            domain: self.domain.as_ref().map(|domain| domain.id),
            generation: self.token.claims.generation,
        };
        TokenCaller { address: self.address.0, token }
    }

    fn of(req: &HttpRequest) -> Result<Bearer> {
        Bearer::presented(req, app(req)?, None)
    }

    /// The token of a request. It must be for `audience`, by default for this server. The cheapest check comes first. The limit
    /// comes last, so that a forged token spends nothing of it.
    ///
    /// # Errors
    /// See [`Bearer`].
    pub(crate) fn presented(req: &HttpRequest, app: &App, audience: Option<&str>) -> Result<Bearer> {
        let token = Bearer::verified_token(app, presented(req)?)?;
        let subject = token.subject;
        if let Subject::Domain(id) = &subject {
            cors::note(req, app, id);
        }
        let admitted = Bearer::admit(req, app, token, audience);
        if let Subject::Domain(id) = subject {
            let kind = admitted.as_ref().map_or_else(|error| Kind::Refused(error.reason()), |_| Kind::Call);
            app.usage.count(id, kind, app.now());
            versions::count(req, app, id);
        }
        admitted
    }

    /// The bearer of a token with a valid signature, if the token is for `audience`, live and within its limit.
    fn admit(req: &HttpRequest, app: &App, token: Arc<VerifiedToken>, audience: Option<&str>) -> Result<Bearer> {
        if !audience.map_or_else(|| token.is_for_us(&app.config), |audience| token.is_for(audience)) {
            return Err(Error::TokenInvalid);
        }
        let bearer = Bearer { address: Address::of(req, &app.config), ..Bearer::in_time(app, token, app.now())? };
        match &bearer.domain {
            Some(domain) => quota::spend(req, app, domain)?,
            None => match Limit::of(req) {
                Limit::Changes => app.spend(Budget::Changes(bearer.tenant()))?,
                Limit::Plan if req.method().is_safe() => app.spend(Budget::Reads(bearer.tenant()))?,
                Limit::Plan | Limit::None => {}
            },
        }
        Ok(bearer)
    }

    /// Checks a token at the time `now`, whatever its audience.
    ///
    /// # Errors
    /// If it is invalid, revoked or expired.
    pub(crate) fn judge(app: &App, token: &str, now: i64) -> Result<Bearer> {
        Bearer::in_time(app, Bearer::verified_token(app, token)?, now)
    }

    /// Checks the signature and the claims alone.
    fn verified_token(app: &App, token: &str) -> Result<Arc<VerifiedToken>> {
        token::verify(token, &app.directory.keyring(), &app.config, app.now()).ok_or(Error::TokenInvalid)
    }

    /// The bearer of a live token that has not expired. A revoked token is refused as such, even if it has expired as well.
    fn in_time(app: &App, token: Arc<VerifiedToken>, now: i64) -> Result<Bearer> {
        let bearer = Bearer::live(app, token)?;
        match bearer.token.has_expired(now) {
            true => Err(Error::TokenExpired(app.config.expired_token_status)),
            false => Ok(bearer),
        }
    }

    /// Finds the owner of a token. Refuses if the owner is deleted, suspended or of a later generation, or if the token itself
    /// is revoked. A token of a later generation than the owner's is good: another node issued it, and this node has not read
    /// the change yet.
    fn live(app: &App, token: Arc<VerifiedToken>) -> Result<Bearer> {
        let (tenant, domain, generation) = match token.subject {
            Subject::Domain(id) => {
                let live = app.directory.by_id(&id).ok_or(Error::TokenRevoked)?;
                let generation = live.generation();
                (live.tenant, Some(live.domain), generation)
            }
            Subject::User(number) => {
                let tenant = app.directory.tenant(number).ok_or(Error::TokenRevoked)?;
                let generation = tenant.generation;
                (tenant, None, generation)
            }
        };
        if token.claims.id != tenant.id.get() {
            return Err(Error::TokenInvalid);
        }
        match token.claims.generation < generation || app.directory.is_revoked(&token.id) {
            true => Err(Error::TokenRevoked),
            false => Ok(Bearer { token, tenant, domain, address: Address(None) }),
        }
    }

    /// Counts the refusal of a valid token as its domain's, and returns it.
    pub(crate) fn refused(&self, req: &HttpRequest, error: Error) -> Error {
        if let (Some(domain), Ok(app)) = (&self.domain, app(req)) {
            app.refused(domain.id, &error);
        }
        error
    }

    /// Counts a request that is refused whatever its token, if the token is a domain's.
    pub(super) fn count_refused(req: &HttpRequest, app: &App, error: &Error) {
        let token = presented(req).and_then(|token| Bearer::verified_token(app, token));
        if let Ok(Subject::Domain(id)) = token.map(|token| token.subject) {
            cors::note(req, app, &id);
            versions::count(req, app, id);
            app.refused(id, error);
        }
    }

    /// The token's id and `exp`, for a revocation.
    pub(crate) fn revocable(&self) -> (TokenId, i64) {
        (self.token.id, self.token.claims.exp)
    }
}

/// The token in the only `Authorization` header: `Bearer <token>`, the scheme in any case, or the token alone.
fn presented(req: &HttpRequest) -> Result<&str> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let header = headers.next().ok_or(Error::TokenMissing)?;
    if headers.next().is_some() {
        return Err(Error::TokenInvalid);
    }
    let text = str::from_utf8(header.as_bytes()).map_err(|_| Error::TokenInvalid)?.trim_matches(' ');
    match text.split_once(' ') {
        None if text.is_empty() => Err(Error::TokenMissing),
        None => Ok(text),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => Ok(token.trim_start_matches(' ')),
        Some(_) => Err(Error::TokenInvalid),
    }
}

impl FromRequest for Bearer {
    type Error = Error;
    type Future = Ready<Result<Bearer>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Bearer::of(req))
    }
}

/// A user token. Routes that manage domains and the account take no other. An access token is refused with 403.
#[derive(Debug)]
pub struct UserToken(Bearer);

impl FromRequest for UserToken {
    type Error = Error;
    type Future = Ready<Result<UserToken>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Bearer::of(req).and_then(|bearer| match bearer.domain {
            None => Ok(UserToken(bearer)),
            Some(_) => Err(bearer.refused(req, Error::WrongKind(Message::UserTokenNeeded))),
        }))
    }
}

impl UserToken {
    /// The user, for an action on the own account.
    pub(crate) fn signed_in(&self) -> SignedIn<'_> {
        SignedIn { caller: self.caller(), tenant: self.user(), expires_at: self.claims().exp }
    }
}

impl Deref for UserToken {
    type Target = Bearer;

    fn deref(&self) -> &Bearer {
        &self.0
    }
}

/// An access token of a domain. A user token is refused with 403.
#[derive(Debug)]
pub struct AccessToken {
    bearer: Bearer,
    domain: Arc<Domain>,
}

impl AccessToken {
    /// The calling domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The domain's plan.
    pub fn plan(&self) -> Plan {
        self.domain.plan
    }
}

impl FromRequest for AccessToken {
    type Error = Error;
    type Future = Ready<Result<AccessToken>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Bearer::of(req).and_then(|bearer| match bearer.domain.clone() {
            Some(domain) => Ok(AccessToken { bearer, domain }),
            None => Err(Error::WrongKind(Message::ClientTokenNeeded)),
        }))
    }
}

impl Deref for AccessToken {
    type Target = Bearer;

    fn deref(&self) -> &Bearer {
        &self.bearer
    }
}

/// A scope that a handler can demand with [`Scoped`].
pub trait Scope {
    /// The name in the token's `scope`, and in the setting `SCOPES`.
    const NAME: &'static str;
}

/// An access token or a user token with the scope `S`. A token without the scope is refused with 403.
#[derive(Debug)]
pub struct Scoped<S>(Bearer, PhantomData<S>);

impl<S: Scope> FromRequest for Scoped<S> {
    type Error = Error;
    type Future = Ready<Result<Scoped<S>>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Bearer::of(req).and_then(|bearer| match bearer.allows(S::NAME) {
            true => Ok(Scoped(bearer, PhantomData)),
            false => Err(bearer.refused(req, Error::LacksScope)),
        }))
    }
}

impl<S> Deref for Scoped<S> {
    type Target = Bearer;

    fn deref(&self) -> &Bearer {
        &self.0
    }
}
