//! The credentials of a client in a request: a secret in JSON, in HTTP Basic or in a form (RFC 6749 §2.3.1), or an assertion
//! in a form (RFC 7523).

use std::fmt;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::form_urlencoded;

use super::body;
use crate::error::{ClientProblem, Error, Result};
use crate::id::DomainId;
use crate::locale::Message;
use crate::token::assertion;

/// The JSON form of a token request.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// The client secret that was shown when the domain was registered or the secret was rotated.
    #[schema(format = Password)]
    client_secret: String,
}

/// The credentials in a request.
pub(super) enum Credentials {
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

impl Credentials {
    pub(super) fn from_json(req: &HttpRequest, bytes: &[u8]) -> Result<Credentials> {
        let parsed = body::parse(bytes).map_err(|error| match error {
            Error::Field { name, problem: Message::Unknown } => Error::field(name, Message::UnknownInTokenRequest),
            error => error,
        });
        match (basic(req)?, parsed?) {
            (None, TokenRequest { client_secret: secret }) => Ok(Credentials::Secret { id: None, secret }),
            (Some(_), _) => Err(Error::Malformed(Message::TwoAuthentications)),
        }
    }
}

/// The members of an OAuth 2.0 form. A member without a value counts as absent. A repeated member is refused (RFC 6749
/// §3.2), except for resources (RFC 8707 §2).
pub struct Form(Vec<(String, String)>);

/// Shows the names only, because a value may be a secret.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    pub(super) fn parse(bytes: &[u8]) -> Result<Form> {
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
    pub(super) fn credentials(&self, req: &HttpRequest) -> Result<Credentials> {
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

/// The problem of a `client_id` that does not belong to the credentials.
pub(super) fn id_mismatch(id: &str) -> ClientProblem {
    DomainId::parse(id).map_or(ClientProblem::NoId, |_| ClientProblem::OtherId)
}

/// The error of wrong credentials in a form.
pub(super) fn refused(problem: ClientProblem) -> Error {
    Error::Client { problem, in_form: true }
}

/// The id and the secret in HTTP Basic, each form-encoded before base64 (RFC 6749 §2.3.1). `None` for another scheme.
fn basic(req: &HttpRequest) -> Result<Option<(String, String)>> {
    let several = |_| Error::Malformed(Message::TwoAuthentications);
    let Some(header) = super::only(req.headers(), AUTHORIZATION).map_err(several)? else {
        return Ok(None);
    };
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
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
