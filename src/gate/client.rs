//! A client: a domain proven by its secret, presented as JSON or, by RFC 6749 §2.3.1, as HTTP Basic or form members, or by
//! a signature (RFC 7523). One code path for all.

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use serde::Deserialize;
use url::form_urlencoded;

use super::address::Address;
use super::body::{self, MediaType};
use super::{app, cors, quota, versions};
use crate::app::leaks::Leak;
use crate::app::{Actor, App, Revoker, Who};
use crate::directory::{Known, Live};
use crate::error::{Error, Result};
use crate::id::{DomainId, SecretId};
use crate::locale::Message;
use crate::secret::ClientSecret;
use crate::shares::{Budget, Holder};
use crate::token::assertion::{self, Circumstances};
use crate::token::replay;
use crate::usage::Use;

/// Proof of a client that may ask for a token, within its plan's limit, and what else it sent.
#[derive(Debug)]
pub struct Client {
    /// The domain with its owner.
    pub live: Live,
    /// Unix seconds from which its secret no longer works, if that was retired.
    pub secret_expires_at: Option<i64>,
    /// The other members of an OAuth 2.0 form; `None` when the client sent plain JSON.
    pub form: Option<Form>,
}

impl FromRequest for Client {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Client>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (req, of_request) = (req.clone(), req.clone());
        let payload = payload.take();
        let client = async move {
            let app = app(&req)?;
            let address = Address::of(&req, &app.config);
            let body = Body::read(&req, payload).await?;
            address.spend(app, Budget::Requests)?;
            let (Proven { live, secret, assertion }, form) = proven(&req, app, address, &body)?;
            let id = live.domain.id;
            versions::count(&req, app, id);
            may_have_tokens(&req, app, &live).inspect_err(|error| app.refused(id, error))?;
            note_use(app, &live, assertion, address)?;
            Ok(Client { live, secret_expires_at: secret.and_then(|(_, expires_at)| expires_at), form })
        };
        // Of a version that is gone, nothing else is told, whatever else may be wrong.
        let told = move |error| match app(&of_request).is_ok_and(|app| versions::is_over(&of_request, app)) {
            true => Error::Sunset,
            false => error,
        };
        client.map_err(told).boxed_local()
    }
}

/// Proof of a client at one of the endpoints that only OAuth 2.0 knows, with the form that it sent. Nothing is spent yet.
#[derive(Debug)]
pub struct FormClient {
    live: Live,
    address: Address,
    /// What it sent.
    pub form: Form,
}

impl FormClient {
    /// Its public id.
    pub fn id(&self) -> DomainId {
        self.live.domain.id
    }

    /// Who revokes its tokens, and from where.
    pub(crate) fn revoker(&self) -> Revoker {
        let (domain, user) = (self.id(), self.live.tenant.id);
        Revoker {
            domain,
            user,
            actor: Actor { who: Who::Client(domain), address: self.address.0 },
            holder: Holder::account(self.address.network(), user),
        }
    }

    /// Takes one request from its plan's limit.
    ///
    /// # Errors
    /// Over the limit.
    pub fn spend(&self, req: &HttpRequest, app: &App) -> Result<()> {
        quota::spend(req, app, &self.live.domain).inspect_err(|error| app.refused(self.id(), error))
    }

    /// Notes that it revoked a token with that `exp`.
    pub(crate) fn has_revoked(&self, exp: i64) {
        self.live.domain.meter.revoked(self.live.generation(), exp);
    }
}

impl FromRequest for FormClient {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<FormClient>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let req = req.clone();
        let payload = payload.take();
        async move {
            if MediaType::of(req.headers()) != Some(MediaType::Form) {
                return Err(Error::MediaType);
            }
            let app = app(&req)?;
            let address = Address::of(&req, &app.config);
            let body = Body::read(&req, payload).await?;
            address.spend(app, Budget::Requests)?;
            let (Proven { live, assertion, .. }, form) = proven(&req, app, address, &body)?;
            note_use(app, &live, assertion, address)?;
            Ok(FormClient { live, address, form: form.ok_or(Error::MediaType)? })
        }
        .boxed_local()
    }
}

/// Whether a client may have a token now. Its own limit comes last: whoever is refused before spends nothing of it.
fn may_have_tokens(req: &HttpRequest, app: &App, live: &Live) -> Result<()> {
    let domain = &live.domain;
    if versions::is_over(req, app) {
        return Err(Error::Sunset);
    }
    if domain.ousted || (app.config.proof_required && !domain.proven) {
        return Err(Error::Unproven);
    }
    quota::spend(req, app, domain).map_err(|error| with_last_token(error, live, app.now()))
}

/// Tells a client that is over its limit how long the token that it has is still good.
fn with_last_token(error: Error, live: &Live, now: i64) -> Error {
    match error {
        Error::PlanLimit { wait, .. } => {
            Error::PlanLimit { wait, last_token: live.domain.meter.last_token_lives(live.generation(), now) }
        }
        error => error,
    }
}

/// The client that sent the request, and what else its form has. Wrong credentials come out of the network's budget for
/// failures; once that is used up they are answered 429, but right ones are still right, so that nobody can shut out
/// a neighbour behind the same address. (A secret has 190 random bits: guessing has to be paid for, not prevented.)
fn proven(req: &HttpRequest, app: &App, address: Address, body: &Body) -> Result<(Proven, Option<Form>)> {
    let proven = presented(req, body).and_then(|(credentials, form)| Ok((credentials.prove(app, req)?, form)));
    if let Ok((Proven { secret: Some((secret, _)), .. }, _)) = &proven {
        app.usage.used(*secret, Use { at: app.now(), from: address.0 });
    }
    if let Err(Error::UnknownClient { .. }) = proven {
        address.spend(app, Budget::Failures)?;
    }
    proven
}

/// A body that was read, in one of the types that credentials come in.
struct Body {
    media_type: MediaType,
    bytes: Bytes,
}

impl Body {
    async fn read(req: &HttpRequest, payload: Payload) -> Result<Body> {
        let media_type = MediaType::of(req.headers()).ok_or(Error::MediaType)?;
        let bytes = body::read(req.headers(), payload, body::MOST).await?;
        Ok(Body { media_type, bytes })
    }
}

/// Reads the credentials, presented in one way only, and what else the form has.
fn presented(req: &HttpRequest, body: &Body) -> Result<(Credentials, Option<Form>)> {
    let Body { media_type, bytes } = body;
    let basic = basic(req)?;
    if *media_type == MediaType::Json {
        let TokenRequest { client_secret: secret } = body::parse(bytes)?;
        return match basic {
            None => Ok((Credentials::Secret { id: None, secret, basic: false }, None)),
            Some(_) => Err(Error::Malformed(Message::TwoAuthentications)),
        };
    }
    let form = Form::parse(bytes)?;
    let credentials = match basic {
        None => form.credentials()?,
        Some(_) if Form::CREDENTIALS.iter().any(|name| form.get(name).is_some()) => {
            return Err(Error::Malformed(Message::TwoAuthentications));
        }
        // A form that names another client beside Basic names nobody.
        Some((id, _)) if form.get("client_id").is_some_and(|named| named != id) => {
            return Err(Error::UnknownClient { basic: true });
        }
        Some((id, secret)) => Credentials::Secret { id: Some(id), secret, basic: true },
    };
    Ok((credentials, Some(form)))
}

/// The JSON form of a token request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// The secret that was shown when the domain was registered.
    #[schema(format = Password)]
    client_secret: String,
}

/// What a client proves itself by.
enum Credentials {
    /// A secret.
    Secret {
        /// The `client_id`, which has to be the secret's where it is given.
        id: Option<String>,
        secret: String,
        /// They came in HTTP Basic.
        basic: bool,
    },
    /// A signature of its own (RFC 7523 §2.2).
    Assertion {
        /// The `client_id`, which has to be the assertion's where it is given.
        id: Option<String>,
        assertion: String,
    },
}

/// A client, and what it proved itself by.
struct Proven {
    live: Live,
    /// The secret, with the time from which the secret no longer works.
    secret: Option<(SecretId, Option<i64>)>,
    /// The use of an assertion, which must still be noted.
    assertion: Option<assertion::Use>,
}

impl Credentials {
    /// The client that these credentials of a request are of.
    fn prove(&self, app: &App, req: &HttpRequest) -> Result<Proven> {
        let (id, basic, proven) = match self {
            Credentials::Secret { id, secret, basic } => {
                let secret = ClientSecret::parse(secret);
                let known = secret.and_then(|secret| app.directory.by_secret(&secret.digest(), app.now()));
                let proven = known.map(|Known { live, secret, expires_at }| Proven {
                    live,
                    secret: Some((secret, expires_at)),
                    assertion: None,
                });
                (id, *basic, proven)
            }
            Credentials::Assertion { id, assertion } => (id, false, asserted(app, assertion, req.path())),
        };
        let proven = proven
            .filter(|proven| id.as_ref().is_none_or(|id| id == proven.live.domain.id.as_str()))
            .ok_or(Error::UnknownClient { basic })?;
        cors::note(req, app, &proven.live.domain.id);
        if let Some((secret, _)) = proven.secret
            && cors::is_from_browser(req.headers())
        {
            let id = proven.live.domain.id;
            came_from_browser(app, req, &proven.live, secret).inspect_err(|error| app.refused(id, error))?;
        }
        Ok(proven)
    }
}

/// A secret in a browser can be read by everybody who looks: its owner has to know.
fn came_from_browser(app: &App, req: &HttpRequest, live: &Live, secret: SecretId) -> Result<()> {
    let address = Address::of(req, &app.config).0;
    app.leaks.note(Leak { secret, domain: live.domain.id, tenant: live.tenant.id, address, at: app.now() });
    match app.config.refuse_browser_secrets {
        true => Err(Error::SecretInBrowser),
        false => Ok(()),
    }
}

/// The client of an assertion, if the assertion is good and was not used before.
fn asserted(app: &App, text: &str, path: &str) -> Option<Proven> {
    let live = app.directory.by_id(&assertion::claimed_client(text)?)?;
    let keys = live.domain.keys()?;
    let config = &app.config;
    let endpoint = |path: &str| format!("{}{path}", config.public_url);
    let (token, called) = (endpoint("/token"), endpoint(path));
    let circumstances = Circumstances {
        audiences: &[&config.issuer, &config.public_url, &token, &called],
        now: app.now(),
        // Of a client that was registered since, this process has seen everything or is told within two seconds.
        remembers_since: if live.domain.is_from_before() { app.remembers_since() } else { i64::MIN },
    };
    let used = assertion::verify(text, &live.domain.id, keys, circumstances)?;
    let is_first = !app.directory.used_assertions.contains(&used);
    is_first.then_some(Proven { live, secret: None, assertion: Some(used) })
}

/// Notes the use of an assertion. This comes after the limits, so that a client over its limit takes no memory.
fn note_use(app: &App, live: &Live, used: Option<assertion::Use>, address: Address) -> Result<()> {
    let Some(used) = used else { return Ok(()) };
    let holder = Holder::account(address.network(), live.tenant.id);
    match app.directory.used_assertions.note(&used, holder) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::UnknownClient { basic: false }),
        Err(replay::Forgetful) => Err(Error::Busy),
    }
}

/// The members of an OAuth 2.0 form. One without a value counts as absent, one given twice is refused (RFC 6749 §3.2),
/// except `resource` (RFC 8707 §2).
pub struct Form(Vec<(String, String)>);

/// Shows the names only: a value may be a credential.
impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    fn parse(bytes: &[u8]) -> Result<Form> {
        let mut members: Vec<(String, String)> = form_urlencoded::parse(bytes).into_owned().collect();
        let names = members.iter().map(|(name, _)| name.as_str());
        let mut names: Vec<&str> = names.filter(|name| *name != "resource").collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::Malformed(Message::RepeatedParameter));
        }
        members.retain(|(_, value)| !value.is_empty());
        Ok(Form(members))
    }

    /// A member's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a member.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(member, _)| member == name).map(|(_, value)| value.as_str())
    }

    const CREDENTIALS: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

    fn credentials(&self) -> Result<Credentials> {
        let id = self.get("client_id").map(str::to_owned);
        let (assertion, kind) = (self.get("client_assertion"), self.get("client_assertion_type"));
        match (self.get("client_secret"), assertion, kind) {
            (None, None, None) => Err(Error::UnknownClient { basic: false }),
            (Some(secret), None, None) if id.is_some() => {
                Ok(Credentials::Secret { id, secret: secret.to_owned(), basic: false })
            }
            (Some(_), None, None) => Err(Error::field("client_id", Message::Required)),
            (Some(_), _, _) => Err(Error::Malformed(Message::TwoAuthentications)),
            (None, None, Some(_)) => Err(Error::field("client_assertion", Message::Required)),
            (None, Some(_), None) => Err(Error::field("client_assertion_type", Message::Required)),
            (None, Some(assertion), Some(assertion::TYPE)) => {
                Ok(Credentials::Assertion { id, assertion: assertion.to_owned() })
            }
            (None, Some(_), Some(_)) => Err(Error::UnknownClient { basic: false }),
        }
    }
}

/// The id and secret of HTTP Basic, each form-encoded before base64 (RFC 6749 §2.3.1). Another scheme is no
/// authentication of a client.
fn basic(req: &HttpRequest) -> Result<Option<(String, String)>> {
    let mut headers = req.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else {
        return Ok(None);
    };
    if headers.next().is_some() {
        return Err(Error::Malformed(Message::TwoAuthentications));
    }
    let text = String::from_utf8_lossy(header.as_bytes());
    let (scheme, encoded) = text.split_once(' ').unwrap_or((&text, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Ok(None);
    }
    let credentials = || {
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        Some((form_decoded(id), form_decoded(secret)))
    };
    credentials().ok_or(Error::UnknownClient { basic: true }).map(Some)
}

fn form_decoded(text: &str) -> String {
    // As the value of the only pair.
    let pair = format!("={text}");
    let mut pairs = form_urlencoded::parse(pair.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((_, value)), None) => value.into_owned(),
        _ => String::new(),
    }
}
