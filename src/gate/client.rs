//! Client authentication: whether the credentials of a request are valid, and whether their client is admitted.

use actix_web::dev::Payload;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::address::Address;
use super::body::{self, MediaType};
use super::credentials::{Credentials, Form, id_mismatch, refused};
use super::{app, cors, quota, versions};
use crate::app::leaks::Leak;
use crate::app::{Actor, App, Caller, Revoker, Who};
use crate::directory::{ActiveClient, Registered, ResolvedSecret};
use crate::error::{ClientProblem, Error, Result};
use crate::id::{DomainId, SecretId};
use crate::locale::Message;
use crate::secret::ClientSecret;
use crate::shares::{Budget, Holder};
use crate::token::assertion::{Assertion, AssertionContext, AssertionUse};
use crate::token::replay::ReplayUnknown;
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
        let (req, payload) = (req.clone(), payload.take());
        async move {
            let call = Call::of(&req)?;
            // For an API version past its sunset, every error is `Sunset`.
            call.client(payload).await.map_err(|error| if call.is_after_sunset() { Error::Sunset } else { error })
        }
        .boxed_local()
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
        let (req, payload) = (req.clone(), payload.take());
        async move { Call::of(&req)?.form_client(payload).await }.boxed_local()
    }
}

/// A request with the credentials of a client.
#[derive(Clone, Copy)]
struct Call<'a> {
    req: &'a HttpRequest,
    app: &'a App,
    address: Address,
}

impl<'a> Call<'a> {
    fn of(req: &'a HttpRequest) -> Result<Call<'a>> {
        let app = app(req)?;
        Ok(Call { req, app, address: Address::of(req, &app.config) })
    }

    fn is_after_sunset(self) -> bool {
        versions::is_over(self.req, self.app)
    }

    async fn client(self, payload: Payload) -> Result<Client> {
        let (form, credentials) = match self.read(payload).await? {
            (MediaType::Json, bytes) => (None, Credentials::from_json(self.req, &bytes)),
            (MediaType::Form, bytes) => {
                let form = Form::parse(&bytes)?;
                let credentials = form.credentials(self.req);
                (Some(form), credentials)
            }
        };
        let (live, secret_expires_at) = self.admit(credentials, |live| self.check_may_have_token(live))?;
        Ok(Client { live, secret_expires_at, form })
    }

    async fn form_client(self, payload: Payload) -> Result<FormClient> {
        let form = match self.read(payload).await {
            Ok((MediaType::Form, bytes)) => Form::parse(&bytes)?,
            Ok((MediaType::Json, _)) | Err(Error::MediaType(Message::SendJson | Message::SendJsonOrForm)) => {
                return Err(Error::MediaType(Message::SendForm));
            }
            Err(error) => return Err(error),
        };
        let (live, _) =
            self.admit(form.credentials(self.req), |live| quota::spend(self.req, self.app, &live.domain))?;
        Ok(FormClient { live, address: self.address, form })
    }

    /// Reads a body of JSON or a form, and takes one request from the network's budget.
    async fn read(self, payload: Payload) -> Result<(MediaType, Bytes)> {
        let media_type = MediaType::of(self.req.headers())?;
        let bytes = body::read(self.req.headers(), payload, body::MAX_BODY_BYTES).await?;
        let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
        match media_type {
            // Many tools declare every body as a form, so a JSON object with that type is refused with a helpful message.
            Some(media_type) if media_type == MediaType::Json || !is_object => {
                self.app.spend(Budget::Requests(self.address.network()))?;
                Ok((media_type, bytes))
            }
            _ if is_object => Err(Error::MediaType(Message::SendJson)),
            _ => Err(Error::MediaType(Message::SendJsonOrForm)),
        }
    }

    /// Authenticates the client, checks what the endpoint demands, and records the use of the credentials. Returns the
    /// client, and when its secret expires.
    fn admit(
        self,
        credentials: Result<Credentials>,
        check: impl FnOnce(&ActiveClient) -> Result<()>,
    ) -> Result<(ActiveClient, Option<i64>)> {
        let (live, proof) = self.authenticate(credentials)?;
        let id = live.domain.id;
        versions::count(self.req, self.app, id);
        // The limits come first, so that the assertions of a client over its limit take no memory.
        let admitted = check(&live).and_then(|()| match &proof {
            Proof::Secret { expires_at, .. } => Ok(*expires_at),
            Proof::Assertion(used) => self.record_assertion(&live, used).map(|()| None),
        });
        let secret_expires_at = admitted.inspect_err(|error| self.app.refused(id, error))?;
        Ok((live, secret_expires_at))
    }

    /// Checks whether the client may have a token now. The limit comes last, so that other refusals are not counted
    /// against it.
    fn check_may_have_token(self, live: &ActiveClient) -> Result<()> {
        let (app, domain) = (self.app, &live.domain);
        if self.is_after_sunset() {
            return Err(Error::Sunset);
        }
        if app.config.verification_required && !domain.host_verified {
            return Err(Error::DomainUnverified);
        }
        quota::spend(self.req, app, domain).map_err(|error| match error {
            Error::PlanLimit { wait, .. } => {
                Error::PlanLimit { wait, last_token: domain.meter.last_token_lives(live.generation(), app.now()) }
            }
            error => error,
        })
    }

    /// Authenticates the client.
    ///
    /// Wrong credentials are counted against the network's budget of failures and are answered with 429 once it is used
    /// up. Valid credentials still work then, so that a client cannot lock out others behind the same address. (A secret
    /// has 190 random bits, so guessing need not be prevented.) Missing credentials are not counted, because clients may
    /// wait for the challenge.
    fn authenticate(self, credentials: Result<Credentials>) -> Result<(ActiveClient, Proof)> {
        let result = credentials.and_then(|credentials| self.verify(&credentials));
        if matches!(result, Err(Error::Client { problem, .. }) if problem != ClientProblem::Missing) {
            self.app.spend(Budget::Failures(self.address.network()))?;
        }
        result
    }

    /// Verifies credentials. A refusal is counted as the client's only after the secret or the signature has identified
    /// the client.
    fn verify(self, credentials: &Credentials) -> Result<(ActiveClient, Proof)> {
        let (id, in_form, identified) = match credentials {
            Credentials::Secret { id, secret } => (id, id.is_some(), self.identify_by_secret(secret)),
            Credentials::Assertion { id, assertion } => (id, true, self.identify_by_assertion(assertion)),
        };
        let refused = |problem| Error::Client { problem, in_form };
        let (client, proof) = identified.map_err(refused)?;
        let domain = client.domain.id;
        cors::note(self.req, self.app, &domain);
        let active = proof.and_then(|proof| Ok((active(client, id.as_deref())?, proof))).map_err(refused);
        let recorded = active.and_then(|(live, proof)| {
            if let Proof::Secret { id, .. } = &proof {
                self.record_secret(&live, *id)?;
            }
            Ok((live, proof))
        });
        recorded.inspect_err(|error| self.app.refused(domain, error))
    }

    fn identify_by_secret(self, text: &str) -> Checked<(Registered, Checked<Proof>)> {
        let secret = ClientSecret::parse(text).ok_or(ClientProblem::MalformedSecret)?;
        let known = self.app.directory.by_secret(&secret.digest()).ok_or(ClientProblem::UnknownSecret)?;
        let ResolvedSecret { client, secret: id, expires_at } = known;
        let works = expires_at.is_none_or(|deadline| self.app.now() < deadline);
        Ok((client, if works { Ok(Proof::Secret { id, expires_at }) } else { Err(ClientProblem::ReplacedSecret) }))
    }

    fn identify_by_assertion(self, text: &str) -> Checked<(Registered, Checked<Proof>)> {
        let (config, directory) = (&self.app.config, &self.app.directory);
        let assertion = Assertion::parse(text).ok_or(ClientProblem::Assertion)?;
        let client = assertion.client().and_then(|id| directory.registered(&id)).ok_or(ClientProblem::Assertion)?;
        let endpoint = |path: &str| format!("{}{path}", config.public_url);
        let (token, called) = (endpoint("/token"), endpoint(self.req.path()));
        let context = AssertionContext {
            audiences: &[&config.issuer, &config.public_url, &token, &called],
            now: self.app.now(),
            // This process knows every assertion of a client that was registered after its start, with a delay of two
            // seconds.
            remembers_since: if client.domain.is_from_before() { self.app.remembers_since() } else { i64::MIN },
        };
        let keys = client.domain.keys().ok_or(ClientProblem::Assertion)?;
        let judged = assertion.verify(keys, context).ok_or(ClientProblem::Assertion)?;
        let proof = judged.and_then(|used| {
            let is_replayed = directory.used_assertions.contains(&used);
            if is_replayed { Err(ClientProblem::AssertionReplayed) } else { Ok(Proof::Assertion(used)) }
        });
        Ok((client, proof))
    }

    /// Records the use of a secret. A secret that a browser sent has leaked, because anyone can read it there: it is noted,
    /// and refused if the settings say so.
    fn record_secret(self, live: &ActiveClient, id: SecretId) -> Result<()> {
        let (app, address, at) = (self.app, self.address.0, self.app.now());
        if cors::is_from_browser(self.req.headers()) {
            app.leaks.note(Leak { secret: id, domain: live.domain.id, tenant: live.tenant.id, address, at });
            if app.config.refuse_browser_secrets {
                return Err(Error::SecretInBrowser);
            }
        }
        app.usage.used(id, Use { at, from: address });
        Ok(())
    }

    fn record_assertion(self, live: &ActiveClient, used: &AssertionUse) -> Result<()> {
        match self.app.use_assertion(used, live.tenant.id, self.address.network()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(refused(ClientProblem::AssertionReplayed)),
            Err(ReplayUnknown) => Err(Error::Busy),
        }
    }
}

/// Valid credentials.
enum Proof {
    Secret {
        id: SecretId,
        /// Unix seconds.
        expires_at: Option<i64>,
    },
    /// The use of an assertion, which is not recorded yet.
    Assertion(AssertionUse),
}

type Checked<T> = std::result::Result<T, ClientProblem>;

/// Checks that the request names the client of the credentials and that the client is neither suspended nor superseded.
fn active(client: Registered, id: Option<&str>) -> Checked<ActiveClient> {
    if let Some(id) = id.filter(|id| *id != client.domain.id.as_str()) {
        return Err(id_mismatch(id));
    }
    let live = client.active().ok_or(ClientProblem::Suspended)?;
    if live.domain.superseded { Err(ClientProblem::Superseded) } else { Ok(live) }
}
