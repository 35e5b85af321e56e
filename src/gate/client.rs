//! `Client`: a domain proven by its secret, presented as JSON or, by RFC 6749 §2.3.1, as HTTP Basic or form
//! members. One code path for all three.

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;
use url::form_urlencoded;

use super::body::{self, MediaType};
use super::{app, bearer};
use crate::directory::Live;
use crate::error::{Error, Result};
use crate::locale::Message;
use crate::secret::ClientSecret;

/// Proof of a client, and what else it sent.
#[derive(Debug)]
pub struct Client {
    /// The domain with its owner.
    pub live: Live,
    /// The other members of an OAuth 2.0 form; `None` when the client sent plain JSON.
    pub form: Option<Form>,
}

impl FromRequest for Client {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Client>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let req = req.clone();
        let payload = payload.take();
        async move { Client::of(&req, payload).await }.boxed_local()
    }
}

impl Client {
    async fn of(req: &HttpRequest, payload: Payload) -> Result<Client> {
        let app = app(req)?;
        let (credentials, form) = presented(req, payload).await?;
        let live = ClientSecret::parse(&credentials.secret)
            .and_then(|secret| app.directory.by_secret(&secret.digest(), app.now()))
            .filter(|live| credentials.id.as_ref().is_none_or(|id| id == live.domain.id.as_str()))
            .ok_or(Error::UnknownClient { basic: credentials.basic })?;
        bearer::spend(app, &live.domain)?;
        Ok(Client { live, form })
    }
}

/// Reads the credentials, presented in one way only, and what else the form has.
async fn presented(req: &HttpRequest, payload: Payload) -> Result<(Credentials, Option<Form>)> {
    let basic = basic(req)?;
    let media_type = MediaType::of(req.headers()).ok_or(Error::MediaType)?;
    let bytes = body::read(req.headers(), payload, body::MOST).await?;
    if media_type == MediaType::Json {
        let TokenRequest { client_secret: secret } = body::parse(&bytes)?;
        return match basic {
            None => Ok((Credentials { id: None, secret, basic: false }, None)),
            Some(_) => Err(Error::Malformed(Message::TwoAuthentications)),
        };
    }
    let form = Form::parse(&bytes)?;
    let credentials = match basic {
        None => form.credentials()?,
        Some(_) if form.get("client_secret").is_some() => return Err(Error::Malformed(Message::TwoAuthentications)),
        // A form that names another client beside Basic names nobody.
        Some(basic) if form.get("client_id").is_some_and(|id| Some(id) != basic.id.as_deref()) => {
            return Err(Error::UnknownClient { basic: true });
        }
        Some(basic) => basic,
    };
    Ok((credentials, Some(form)))
}

/// The JSON form of a token request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// The secret that was shown when the domain was registered.
    client_secret: String,
}

struct Credentials {
    /// The `client_id`, which has to be the secret's where it is given.
    id: Option<String>,
    secret: String,
    /// They came in HTTP Basic.
    basic: bool,
}

/// The members of an OAuth 2.0 form. One without a value counts as absent, one given twice is refused (RFC 6749 §3.2).
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
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
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

    fn credentials(&self) -> Result<Credentials> {
        let id = self.get("client_id");
        match (id, self.get("client_secret")) {
            (Some(id), Some(secret)) => {
                Ok(Credentials { id: Some(id.to_owned()), secret: secret.to_owned(), basic: false })
            }
            (None, Some(_)) => Err(Error::field("client_id", Message::Required)),
            (_, None) => Err(Error::UnknownClient { basic: false }),
        }
    }
}

/// The credentials of HTTP Basic, each form-encoded before base64 (RFC 6749 §2.3.1). Another scheme is no
/// authentication of a client.
fn basic(req: &HttpRequest) -> Result<Option<Credentials>> {
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
        Some(Credentials { id: Some(form_decoded(id)), secret: form_decoded(secret), basic: true })
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
