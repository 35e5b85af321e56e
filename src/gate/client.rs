//! Client authentication: by a secret in JSON, in HTTP Basic or in a form (RFC 6749 §2.3.1), or by an assertion (RFC
//! 7523).

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
use crate::app::{Actor, App, Caller, Revoker, Who};
use crate::directory::{ActiveClient, Registered, ResolvedSecret};
use crate::error::{ClientProblem, Error, Result};
use crate::id::{DomainId, SecretId};
use crate::locale::Message;
use crate::secret::ClientSecret;
use crate::shares::{Budget, Holder};
use crate::token::assertion::{self, AssertionContext};
use crate::token::replay;
use crate::usage::Use;

/// An authenticated client that may have a token. The request is counted against the limit of its plan.
#[derive(Debug)]
pub struct Client {
    /// The domain with its owner.
    pub live: ActiveClient,
    /// When the secret stops working, in Unix seconds. `None` if it does not expire.
    pub secret_expires_at: Option<i64>,
    /// The OAuth 2.0 form. `None` if the request is JSON.
    pub form: Option<Form>,
}

impl FromRequest for Client {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Client>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (req, request) = (req.clone(), req.clone());
        let payload = payload.take();
        let client = async move {
            let app = app(&req)?;
            let address = Address::of(&req, &app.config);
            let (media_type, bytes) = read(&req, payload).await?;
            app.spend(Budget::Requests(address.network()))?;
            let (form, credentials) = match media_type {
                MediaType::Json => (None, from_json(&req, &bytes)),
                MediaType::Form => {
                    let form = Form::parse(&bytes)?;
                    let credentials = form.credentials(&req);
                    (Some(form), credentials)
                }
            };
            let Authenticated { live, proof } = authenticate(&req, app, address, credentials)?;
            let id = live.domain.id;
            versions::count(&req, app, id);
            check_may_have_token(&req, app, &live).inspect_err(|error| app.refused(id, error))?;
            record_use(app, &live, &proof, address)?;
            let secret_expires_at = match proof {
                Proof::Secret { expires_at, .. } => expires_at,
                Proof::Assertion(_) => None,
            };
            Ok(Client { live, secret_expires_at, form })
        };
        // For an API version past its sunset, every error is `Sunset`.
        let or_sunset = move |error| {
            if app(&request).is_ok_and(|app| versions::is_over(&request, app)) { Error::Sunset } else { error }
        };
        client.map_err(or_sunset).boxed_local()
    }
}

/// An authenticated client at an endpoint that accepts forms only.
#[derive(Debug)]
pub struct FormClient {
    live: ActiveClient,
    address: Address,
    /// The form.
    pub form: Form,
}

impl FormClient {
    /// The domain's public id.
    pub fn id(&self) -> DomainId {
        self.live.domain.id
    }

    /// The client as the revoker of its own token.
    pub(crate) fn revoker(&self) -> Revoker {
        let (domain, user) = (self.id(), self.live.tenant.id);
        let caller = Caller {
            actor: Actor { who: Who::Client(domain), address: self.address.0 },
            holder: Holder::account(self.address.network(), user),
            token: None,
        };
        Revoker { domain, user, caller }
    }

    /// Records that the client revoked a token with this `exp`.
    pub(crate) fn record_revocation(&self, exp: i64) {
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
            let app = app(&req)?;
            let address = Address::of(&req, &app.config);
            let bytes = match read(&req, payload).await {
                Ok((MediaType::Form, bytes)) => bytes,
                Ok((MediaType::Json, _)) | Err(Error::MediaType(Message::SendJson | Message::SendJsonOrForm)) => {
                    return Err(Error::MediaType(Message::SendForm));
                }
                Err(error) => return Err(error),
            };
            app.spend(Budget::Requests(address.network()))?;
            let form = Form::parse(&bytes)?;
            let Authenticated { live, proof } = authenticate(&req, app, address, form.credentials(&req))?;
            quota::spend(&req, app, &live.domain).inspect_err(|error| app.refused(live.domain.id, error))?;
            record_use(app, &live, &proof, address)?;
            Ok(FormClient { live, address, form })
        }
        .boxed_local()
    }
}

/// Checks whether the client may have a token now. The limit comes last, so that other refusals are not counted against
/// it.
fn check_may_have_token(req: &HttpRequest, app: &App, live: &ActiveClient) -> Result<()> {
    let domain = &live.domain;
    if versions::is_over(req, app) {
        return Err(Error::Sunset);
    }
    if app.config.verification_required && !domain.host_verified {
        return Err(Error::DomainUnverified);
    }
    quota::spend(req, app, domain).map_err(|error| with_last_token(error, live, app.now()))
}

/// Adds to a limit error for how long the last token of the client is still valid.
fn with_last_token(error: Error, live: &ActiveClient, now: i64) -> Error {
    match error {
        Error::PlanLimit { wait, .. } => {
            Error::PlanLimit { wait, last_token: live.domain.meter.last_token_lives(live.generation(), now) }
        }
        error => error,
    }
}

/// Authenticates the client.
///
/// Wrong credentials are counted against the network's budget of failures and are answered with 429 once it is used up.
/// Valid credentials still work then, so that a client cannot lock out others behind the same address. (A secret has
/// 190 random bits, so guessing need not be prevented.) Missing credentials are not counted, because clients may wait
/// for the challenge.
fn authenticate(
    req: &HttpRequest,
    app: &App,
    address: Address,
    credentials: Result<Credentials>,
) -> Result<Authenticated> {
    let result = credentials.and_then(|credentials| credentials.verify(app, req));
    match &result {
        Ok(Authenticated { proof: Proof::Secret { id, .. }, .. }) => {
            app.usage.used(*id, Use { at: app.now(), from: address.0 });
        }
        Err(Error::Client { problem, .. }) if *problem != ClientProblem::Missing => {
            app.spend(Budget::Failures(address.network()))?;
        }
        _ => {}
    }
    result
}

/// Reads a body of JSON or a form.
async fn read(req: &HttpRequest, payload: Payload) -> Result<(MediaType, Bytes)> {
    let media_type = MediaType::of(req.headers())?;
    let bytes = body::read(req.headers(), payload, body::MAX_BODY_BYTES).await?;
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    match media_type {
        // Many tools declare every body as a form, so a JSON object with that type is refused with a helpful message.
        Some(media_type) if media_type == MediaType::Json || !is_object => Ok((media_type, bytes)),
        _ if is_object => Err(Error::MediaType(Message::SendJson)),
        _ => Err(Error::MediaType(Message::SendJsonOrForm)),
    }
}

fn from_json(req: &HttpRequest, bytes: &Bytes) -> Result<Credentials> {
    let parsed = body::parse(bytes).map_err(|error| match error {
        Error::Field { name, problem: Message::Unknown } => Error::field(name, Message::UnknownInTokenRequest),
        error => error,
    });
    match (basic(req)?, parsed?) {
        (None, TokenRequest { client_secret: secret }) => Ok(Credentials::Secret { id: None, secret }),
        (Some(_), _) => Err(Error::Malformed(Message::TwoAuthentications)),
    }
}

/// The error of wrong credentials in a form.
fn refused(problem: ClientProblem) -> Error {
    Error::Client { problem, in_form: true }
}

/// The JSON form of a token request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// The client secret that was shown when the domain was registered or the secret was rotated.
    #[schema(format = Password)]
    client_secret: String,
}

/// The credentials in a request.
enum Credentials {
    Secret {
        /// The `client_id`, which must be the secret's. `None` in JSON.
        id: Option<String>,
        secret: String,
    },
    /// A client assertion (RFC 7523 §2.2).
    Assertion {
        /// The `client_id`, which must be the assertion's. Optional.
        id: Option<String>,
        assertion: String,
    },
}

/// An authenticated client with its valid credentials.
struct Authenticated {
    live: ActiveClient,
    proof: Proof,
}

/// Valid credentials.
enum Proof {
    Secret {
        id: SecretId,
        /// Unix seconds.
        expires_at: Option<i64>,
    },
    /// The use of an assertion, which is not recorded yet.
    Assertion(assertion::AssertionUse),
}

/// The client that the credentials belong to, and whether they are valid.
type Identified = (Registered, std::result::Result<Proof, ClientProblem>);

impl Credentials {
    /// Authenticates the client. A refusal is counted as the client's only after the secret or the signature has
    /// identified it.
    fn verify(&self, app: &App, req: &HttpRequest) -> Result<Authenticated> {
        let (id, in_form, identified) = match self {
            Credentials::Secret { id, secret } => (id, id.is_some(), identify_by_secret(app, secret)),
            Credentials::Assertion { id, assertion } => (id, true, identify_by_assertion(app, assertion, req.path())),
        };
        let refused = |problem| Error::Client { problem, in_form };
        let (client, proof) = identified.map_err(refused)?;
        let domain = client.domain.id;
        cors::note(req, app, &domain);
        let admitted = proof.and_then(|proof| admit(client, id.as_deref(), proof)).map_err(refused);
        let admitted = admitted.and_then(|client| match &client.proof {
            Proof::Secret { id, .. } if cors::is_from_browser(req.headers()) => {
                record_leak(app, req, &client.live, *id).map(|()| client)
            }
            _ => Ok(client),
        });
        admitted.inspect_err(|error| app.refused(domain, error))
    }
}

fn identify_by_secret(app: &App, text: &str) -> std::result::Result<Identified, ClientProblem> {
    let secret = ClientSecret::parse(text).ok_or(ClientProblem::MalformedSecret)?;
    let known = app.directory.by_secret(&secret.digest()).ok_or(ClientProblem::UnknownSecret)?;
    let ResolvedSecret { client, secret: id, expires_at } = known;
    let works = expires_at.is_none_or(|deadline| app.now() < deadline);
    Ok((client, if works { Ok(Proof::Secret { id, expires_at }) } else { Err(ClientProblem::ReplacedSecret) }))
}

fn identify_by_assertion(app: &App, text: &str, path: &str) -> std::result::Result<Identified, ClientProblem> {
    let client = assertion::claimed_client(text).and_then(|id| app.directory.registered(&id));
    let client = client.ok_or(ClientProblem::Assertion)?;
    let config = &app.config;
    let endpoint = |path: &str| format!("{}{path}", config.public_url);
    let (token, called) = (endpoint("/token"), endpoint(path));
    let context = AssertionContext {
        audiences: &[&config.issuer, &config.public_url, &token, &called],
        now: app.now(),
        // This process knows every assertion of a client that was registered after its start, with a delay of two
        // seconds.
        remembers_since: if client.domain.is_from_before() { app.remembers_since() } else { i64::MIN },
    };
    let keys = client.domain.keys().ok_or(ClientProblem::Assertion)?;
    let judged = assertion::verify(text, &client.domain.id, keys, context).ok_or(ClientProblem::Assertion)?;
    let proof = judged.and_then(|used| {
        if app.directory.used_assertions.contains(&used) {
            Err(ClientProblem::AssertionReplayed)
        } else {
            Ok(Proof::Assertion(used))
        }
    });
    Ok((client, proof))
}

/// Checks that the request names the client of the credentials and that the client is neither suspended nor superseded.
fn admit(client: Registered, id: Option<&str>, proof: Proof) -> std::result::Result<Authenticated, ClientProblem> {
    match id {
        Some(id) if id != client.domain.id.as_str() => Err(id_mismatch(id)),
        _ => {
            let live = client.active().ok_or(ClientProblem::Suspended)?;
            if live.domain.superseded { Err(ClientProblem::Superseded) } else { Ok(Authenticated { live, proof }) }
        }
    }
}

/// The problem of a `client_id` that does not belong to the credentials.
fn id_mismatch(id: &str) -> ClientProblem {
    DomainId::parse(id).map_or(ClientProblem::NoId, |_| ClientProblem::OtherId)
}

/// Records a secret that a browser sent, where anyone can read it. Refuses it if the settings say so.
fn record_leak(app: &App, req: &HttpRequest, live: &ActiveClient, secret: SecretId) -> Result<()> {
    let address = Address::of(req, &app.config).0;
    app.leaks.note(Leak { secret, domain: live.domain.id, tenant: live.tenant.id, address, at: app.now() });
    if app.config.refuse_browser_secrets { Err(Error::SecretInBrowser) } else { Ok(()) }
}

/// Records the use of an assertion. The caller checks the limits first, so that a client over its limit takes no
/// memory.
fn record_use(app: &App, live: &ActiveClient, proof: &Proof, address: Address) -> Result<()> {
    let Proof::Assertion(used) = proof else { return Ok(()) };
    let noted = match app.use_assertion(used, live.tenant.id, address.network()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused(ClientProblem::AssertionReplayed)),
        Err(replay::ReplayUnknown) => Err(Error::Busy),
    };
    noted.inspect_err(|error| app.refused(live.domain.id, error))
}

/// The members of an OAuth 2.0 form. A member without a value counts as absent. A repeated member is refused (RFC 6749
/// §3.2), except for resources (RFC 8707 §2).
pub struct Form(Vec<(String, String)>);

/// Shows the names only, because a value may be a secret.
impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    fn parse(bytes: &[u8]) -> Result<Form> {
        let mut members: Vec<(String, String)> = form_urlencoded::parse(bytes).into_owned().collect();
        let names = members.iter().map(|(name, _)| name.as_str());
        let mut names: Vec<&str> = names.filter(|name| !Form::RESOURCES.contains(name)).collect();
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

    /// The values of `resource` and `audience`.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(member, _)| Form::RESOURCES.contains(&member.as_str())).map(|(_, value)| value.as_str())
    }

    /// RFC 8707 calls the parameter `resource`; some other servers call it `audience`.
    const RESOURCES: [&str; 2] = ["resource", "audience"];
    const CREDENTIALS: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

    /// The credentials in HTTP Basic or in the form, but not both.
    fn credentials(&self, req: &HttpRequest) -> Result<Credentials> {
        match basic(req)? {
            None => self.form_credentials(),
            Some(_) if Form::CREDENTIALS.iter().any(|name| self.get(name).is_some()) => {
                Err(Error::Malformed(Message::TwoAuthentications))
            }
            Some((id, secret)) => match self.get("client_id").filter(|named| *named != id) {
                Some(named) => Err(refused(id_mismatch(named))),
                None => Ok(Credentials::Secret { id: Some(id), secret }),
            },
        }
    }

    fn form_credentials(&self) -> Result<Credentials> {
        let id = self.get("client_id").map(str::to_owned);
        let (assertion, kind) = (self.get("client_assertion"), self.get("client_assertion_type"));
        match (self.get("client_secret"), assertion, kind) {
            (None, None, None) => Err(refused(ClientProblem::Missing)),
            (Some(secret), None, None) if id.is_some() => Ok(Credentials::Secret { id, secret: secret.to_owned() }),
            (Some(_), None, None) => Err(Error::field("client_id", Message::Required)),
            (Some(_), _, _) => Err(Error::Malformed(Message::TwoAuthentications)),
            (None, None, Some(_)) => Err(Error::field("client_assertion", Message::Required)),
            (None, Some(_), None) => Err(Error::field("client_assertion_type", Message::Required)),
            (None, Some(assertion), Some(assertion::TYPE)) => {
                Ok(Credentials::Assertion { id, assertion: assertion.to_owned() })
            }
            (None, Some(_), Some(_)) => Err(refused(ClientProblem::AssertionType)),
        }
    }
}

/// The id and the secret in HTTP Basic, each form-encoded before base64 (RFC 6749 §2.3.1). `None` for another scheme.
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
    credentials().ok_or(refused(ClientProblem::Basic)).map(Some)
}

fn form_decoded(text: &str) -> String {
    // The parser decodes pairs, so the text becomes the value of a pair with an empty name.
    let pair = format!("={text}");
    let mut pairs = form_urlencoded::parse(pair.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((_, value)), None) => value.into_owned(),
        _ => String::new(),
    }
}
