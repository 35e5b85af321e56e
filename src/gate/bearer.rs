//! [`Bearer`]: a verified token as a handler's parameter.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;

use super::address::Address;
use super::routes::Limit;
use super::{app, cors, quota, versions};
use crate::actions::accounts::SignedIn;
use crate::app::{App, TokenCaller, TokenGeneration};
use crate::directory::{Domain, Tenant};
use crate::error::{Error, Result};
use crate::id::{DomainId, TokenId, UserId};
use crate::locale::Message;
use crate::plan::Plan;
use crate::shares::Budget;
use crate::token::{self, Claims, Subject, VerifiedToken};
use crate::usage::Kind;

/// An access token or a user token that is valid, not revoked and within its limit.
///
/// As a parameter of a handler, it is the handler's authorization rule: the handler runs only for such a token. Otherwise the
/// answer is 401, 419 for a token that has only expired, or 429 over the limit of the route. [`UserToken`], [`AccessToken`]
/// and [`Scoped`] demand more.
///
/// The token must be in the header `Authorization`, and its audience must be this server. Verification takes neither a
/// database query nor a lock.
///
/// # Examples
///
/// ```
/// use gatebird::Bearer;
///
/// #[actix_web::get("/orders")]
/// async fn orders(token: Bearer) -> String {
///     format!("orders of user {}", token.tenant().get())
/// }
/// ```
#[derive(Debug)]
pub struct Bearer {
    token: Arc<VerifiedToken>,
    tenant: Arc<Tenant>,
    domain: Option<Arc<Domain>>,
    address: Address,
}

impl Bearer {
    /// Returns the user whose data the caller may see. Query the user's rows only.
    pub fn tenant(&self) -> UserId {
        self.tenant.id
    }

    /// Returns the claims of the token. Names and the host are those of the time when the token was issued.
    pub fn claims(&self) -> &Claims<'static> {
        &self.token.claims
    }

    /// Returns whether the token has that scope. [`Scoped`] demands a scope for the whole handler.
    pub fn allows(&self, scope: &str) -> bool {
        self.token.allows(scope)
    }

    /// The tenant as it is now.
    pub(crate) fn user(&self) -> &Tenant {
        &self.tenant
    }

    /// The domain of an access token. `None` for a user token.
    pub(crate) fn domain(&self) -> Option<&Domain> {
        self.domain.as_deref()
    }

    /// Whether the token is for that audience.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        self.token.is_for(audience)
    }

    /// The caller, for [`App::write`].
    pub(crate) fn caller(&self) -> TokenCaller {
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
        // The middleware answers for a stale node. Other applications have the extractors only.
        if app.directory.is_stale() {
            return Err(Error::Busy);
        }
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
                Limit::Reads => app.spend(Budget::Reads(bearer.tenant()))?,
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
        if bearer.token.has_expired(now) {
            Err(Error::TokenExpired(app.config.expired_token_status))
        } else {
            Ok(bearer)
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
        if token.claims.generation < generation || app.directory.is_revoked(&token.id) {
            return Err(Error::TokenRevoked);
        }
        Ok(Bearer { token, tenant, domain, address: Address(None) })
    }

    /// Returns the bearer, unless the token does not meet a requirement. Such a refusal is counted as the domain's.
    pub(crate) fn unless(self, req: &HttpRequest, unmet: Option<Error>) -> Result<Bearer> {
        let Some(error) = unmet else { return Ok(self) };
        if let Some(domain) = &self.domain {
            app(req)?.refused(domain.id, &error);
        }
        Err(error)
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
    let header = super::only(req.headers(), AUTHORIZATION).map_err(|_| Error::TokenInvalid)?;
    let header = header.ok_or(Error::TokenMissing)?;
    let text = str::from_utf8(header.as_bytes()).map_err(|_| Error::TokenInvalid)?.trim_matches(' ');
    match text.split_once(' ') {
        None if text.is_empty() => Err(Error::TokenMissing),
        None => Ok(text),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => Ok(token.trim_start_matches(' ')),
        Some(_) => Err(Error::TokenInvalid),
    }
}

/// A [`Bearer`] with a user token, which a person gets by signing in. An access token is refused with 403.
#[derive(Debug)]
pub struct UserToken(Bearer);

impl UserToken {
    pub(super) fn of(req: &HttpRequest) -> Result<UserToken> {
        let bearer = Bearer::of(req)?;
        let unmet = bearer.domain.is_some().then_some(Error::WrongKind(Message::UserTokenNeeded));
        bearer.unless(req, unmet).map(UserToken)
    }

    /// The user, for an action on the own account.
    pub(crate) fn signed_in(&self) -> SignedIn<'_> {
        SignedIn { caller: self.caller(), tenant: self.user(), expires_at: self.claims().exp }
    }
}

/// A [`Bearer`] with an access token of a domain, which `/token` issues. A user token is refused with 403.
///
/// # Examples
///
/// ```
/// use gatebird::AccessToken;
///
/// #[actix_web::get("/caller")]
/// async fn caller(token: AccessToken) -> String {
///     format!("{} of user {}, plan {}", token.host(), token.tenant().get(), token.plan().as_str())
/// }
/// ```
#[derive(Debug)]
pub struct AccessToken(Bearer, Arc<Domain>);

impl AccessToken {
    fn of(req: &HttpRequest) -> Result<AccessToken> {
        let bearer = Bearer::of(req)?;
        let domain = bearer.domain.clone().ok_or(Error::WrongKind(Message::ClientTokenNeeded))?;
        Ok(AccessToken(bearer, domain))
    }

    /// Returns the public id of the calling domain, which is its OAuth 2.0 `client_id`.
    pub fn client_id(&self) -> DomainId {
        self.1.id
    }

    /// Returns the host of the calling domain.
    pub fn host(&self) -> &str {
        &self.1.host
    }

    /// Returns the present plan of the calling domain.
    pub fn plan(&self) -> Plan {
        self.1.plan
    }
}

/// A scope that a handler can demand with [`Scoped`].
///
/// # Examples
///
/// ```
/// use gatebird::{Scope, Scoped};
///
/// struct OrdersRead;
///
/// impl Scope for OrdersRead {
///     const NAME: &'static str = "orders:read";
/// }
///
/// /// Answers 403 to a token without the scope.
/// #[actix_web::get("/orders")]
/// async fn orders(token: Scoped<OrdersRead>) -> String {
///     format!("orders of user {}", token.tenant().get())
/// }
/// ```
pub trait Scope {
    /// The name in the `scope` of a token. The setting `SCOPES` must list it, so that clients can ask for it.
    const NAME: &'static str;
}

/// A [`Bearer`] whose token has the scope `S`. A token without the scope is refused with 403. A user token has every scope.
#[derive(Debug)]
pub struct Scoped<S>(Bearer, PhantomData<S>);

impl<S: Scope> Scoped<S> {
    fn of(req: &HttpRequest) -> Result<Scoped<S>> {
        let bearer = Bearer::of(req)?;
        let unmet = (!bearer.allows(S::NAME)).then_some(Error::LacksScope);
        bearer.unless(req, unmet).map(|bearer| Scoped(bearer, PhantomData))
    }
}

extract!(Bearer, Bearer::of);
extract!(UserToken, UserToken::of);
extract!(AccessToken, AccessToken::of);
extract!(Scoped<S> where S: Scope, Scoped::of);

macro_rules! deref_to_bearer {
    ($type:ty $(where $parameter:ident)?) => {
        impl$(<$parameter>)? Deref for $type {
            type Target = Bearer;

            fn deref(&self) -> &Bearer {
                &self.0
            }
        }
    };
}
deref_to_bearer!(UserToken);
deref_to_bearer!(AccessToken);
deref_to_bearer!(Scoped<S> where S);
