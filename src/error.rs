//! What can go wrong, as the outside sees it: one enum, one table of status, `error` and `reason`, one JSON
//! body. Everything that is not an answer to a caller's own mistake is `Internal` and tells nothing.

use std::fmt::{self, Display};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::locale::{Locale, Message};
use crate::reason::Reason;

/// Shorthand for results that end in an answer.
pub type Result<T> = std::result::Result<T, Error>;

/// A refused request, or a failure of ours.
#[derive(Debug)]
pub enum Error {
    /// No `Authorization` header.
    TokenMissing,
    /// Not a token of ours, for whatever reason; the reason is not told.
    TokenInvalid,
    /// Ours and good in every other respect, but past `exp`. The status is 419, or 401 with
    /// `EXPIRED_TOKEN_STATUS=401`.
    TokenExpired(StatusCode),
    /// Revoked, or of an earlier generation, or its domain or user is gone or suspended.
    TokenRevoked,
    /// A client did not prove itself, or may not have what it asks for (RFC 6749 §5.2).
    Client {
        /// What is wrong.
        problem: ClientProblem,
        /// The credentials came in a form, which takes HTTP Basic too, so the challenge names that.
        in_form: bool,
    },
    /// A client may not revoke the token of another one (RFC 7009 §2.1).
    OtherClient,
    /// Sign-in failed; whether the user exists is not told.
    WrongCredentials,
    /// The account's owner gave a wrong current password.
    WrongPassword,
    /// It is not any more as the caller saw it (`If-Match`).
    Changed,
    /// There may be no more of what was asked for.
    Quota(Message),
    /// `SIGNUP=closed`.
    SignupClosed,
    /// The token is fine but lacks the scope.
    LacksScope,
    /// The token is fine but of the wrong kind for this.
    WrongKind(Message),
    /// One member of the input is not as it has to be.
    Field {
        /// The member, as the caller spelt it in the body, query or form.
        name: String,
        /// What it has to be.
        problem: Message,
    },
    /// The input cannot be read at all.
    Malformed(Message),
    /// The body is not JSON; where the first mistake is.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes; 0 where the line is empty.
        column: usize,
    },
    /// A grant other than client credentials (RFC 6749 §5.2).
    GrantType,
    /// Unknown scope, or more than the domain may have (RFC 6749 §5.2).
    Scope,
    /// A resource that tokens are not issued for (RFC 8707 §2).
    Target,
    /// The token is fine but of a domain of another host than was demanded.
    WrongHost,
    /// The token is of the demanded host's domain, but control of that host is not verified.
    HostUnverified,
    /// Any refusal as a reverse proxy understands it: 401 or 403 and nothing else, the reason in a header.
    AtProxy(Box<Error>),
    /// Does not exist, or is another tenant's.
    NotFound(Message),
    /// The path exists, the method does not; the value of `Allow`.
    Method(String),
    /// The name is in use.
    Taken {
        /// The member that has to change.
        name: &'static str,
        /// Why.
        problem: Message,
    },
    /// Body over the limit.
    TooLarge,
    /// Request head over the limit (RFC 6585 §5).
    HeadTooLarge,
    /// The body did not come within the time that it may take.
    TooSlow,
    /// A body of a type, or in an encoding, that is not read here; what must be sent.
    MediaType(Message),
    /// A browser asks for a page of an origin that no registered host has.
    Origin(Message),
    /// A good client secret, but a browser sent it (`BROWSER_SECRETS=refuse`).
    SecretInBrowser,
    /// The API's version is past its sunset.
    Sunset,
    /// Over the plan's limit.
    PlanLimit {
        /// How long until one more request fits.
        wait: Duration,
        /// Seconds that the last token is still good, where somebody asks for another.
        last_token: Option<i64>,
    },
    /// The network asks too often, whoever it is; how long until one more request fits.
    NetworkLimit(Duration),
    /// The user changes too much; how long until one more change fits.
    AccountLimit(Duration),
    /// Too many wrong credentials, or tries to prove a host.
    FailureLimit {
        /// How long until one more fits.
        wait: Duration,
        /// Of what.
        message: Message,
    },
    /// Something that the operator suspended, and its owner may not get rid of.
    Suspended(Message),
    /// `SELF_SERVICE_PREMIUM=false`: a plan that only the operator grants.
    PlanNotGranted,
    /// The domain gets no tokens: control of its host is not proven, or was proven by somebody else.
    Unproven,
    /// A proof was tried and not found; what was looked for and what was found.
    NotProven(Box<Value>),
    /// Overloaded, or the database is away; nothing was changed.
    Busy,
    /// The change is committed, or perhaps is, but not certainly in force on this node: neither success nor 503 would be
    /// true.
    CommitUnknown,
    /// A bug or a broken installation; the cause is for the log only.
    Internal(String),
    /// Like that, and for good: this node cannot know what it missed in the database, and has to be restarted.
    Outdated(&'static str),
}

/// Why a client was not taken for the one that it says it is, or gets nothing although it is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProblem {
    /// It sent no credentials.
    Missing,
    /// Its `Authorization` header cannot be read as HTTP Basic.
    Basic,
    /// Its secret has a wrong checksum.
    MalformedSecret,
    /// Nobody has its secret.
    UnknownSecret,
    /// Its secret was replaced, and the time until which it went on working is over.
    ReplacedSecret,
    /// Its `client_id` does not look like one.
    NoId,
    /// Its `client_id` is another client's.
    OtherId,
    /// Its `client_assertion_type` is not supported.
    AssertionType,
    /// Its assertion is not signed by it.
    Assertion,
    /// Its assertion is for another server.
    AssertionAudience,
    /// Its assertion has expired.
    AssertionExpired,
    /// Its assertion begins in the future.
    AssertionNotYet,
    /// Its assertion was used before.
    AssertionReplayed,
    /// Its assertion lives too long.
    AssertionLifetime,
    /// The operator suspended it or its owner.
    Suspended,
    /// Somebody else verified its host.
    Superseded,
}

impl ClientProblem {
    fn told(self) -> (Reason, Message) {
        match self {
            ClientProblem::Missing => (Reason::Missing, Message::ClientMissing),
            ClientProblem::Basic => (Reason::UnknownClient, Message::UnreadableBasic),
            ClientProblem::MalformedSecret => (Reason::MalformedSecret, Message::MalformedSecret),
            ClientProblem::UnknownSecret => (Reason::UnknownClient, Message::UnknownSecret),
            ClientProblem::ReplacedSecret => (Reason::UnknownClient, Message::ReplacedSecret),
            ClientProblem::NoId => (Reason::UnknownClient, Message::NoClientId),
            ClientProblem::OtherId => (Reason::UnknownClient, Message::OtherClientId),
            ClientProblem::AssertionType => (Reason::UnknownClient, Message::AssertionType),
            ClientProblem::Assertion => (Reason::UnknownClient, Message::Assertion),
            ClientProblem::AssertionAudience => (Reason::AssertionAudience, Message::AssertionAudience),
            ClientProblem::AssertionExpired => (Reason::AssertionExpired, Message::AssertionExpired),
            ClientProblem::AssertionNotYet => (Reason::AssertionNotYet, Message::AssertionNotYet),
            ClientProblem::AssertionReplayed => (Reason::AssertionReplayed, Message::AssertionReplayed),
            ClientProblem::AssertionLifetime => (Reason::AssertionLifetime, Message::AssertionLifetime),
            ClientProblem::Suspended => (Reason::Suspended, Message::ClientSuspended),
            ClientProblem::Superseded => (Reason::Superseded, Message::ClientSuperseded),
        }
    }
}

/// One row of the contract's table.
struct Row {
    status: StatusCode,
    error: &'static str,
    reason: Reason,
    message: Message,
}

/// Challenge and retry values are the same for everybody, so they are built once.
const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"gatebird\", charset=\"UTF-8\"");
const REASON: HeaderName = HeaderName::from_static("x-gatebird-reason");
const BEARER_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"gatebird\"");

impl Error {
    /// A member that is not as it has to be.
    pub fn field(name: impl Into<String>, problem: Message) -> Error {
        Error::Field { name: name.into(), problem }
    }

    /// Anything unexpected; `cause` goes to the log, never to the caller.
    pub fn internal(cause: impl Display) -> Error {
        Error::Internal(cause.to_string())
    }

    /// The stable word of this error, for counters and for `reason` in the body.
    pub fn reason(&self) -> Reason {
        self.row().reason
    }

    /// The cause of an internal error, for the log.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Error::Internal(cause) => Some(cause),
            Error::Outdated(cause) => Some(cause),
            Error::AtProxy(error) => error.cause(),
            _ => None,
        }
    }

    #[rustfmt::skip]
    fn row(&self) -> Row {
        let row = |status, error, reason, message| Row { status, error, reason, message };
        use {Reason as R, StatusCode as S};
        match self {
            Error::TokenMissing => row(S::UNAUTHORIZED, "invalid_token", R::Missing, Message::TokenMissing),
            Error::TokenInvalid => row(S::UNAUTHORIZED, "invalid_token", R::Invalid, Message::TokenInvalid),
            Error::TokenExpired(status) => row(*status, "invalid_token", R::Expired, Message::TokenExpired),
            Error::TokenRevoked => row(S::UNAUTHORIZED, "invalid_token", R::Revoked, Message::TokenRevoked),
            Error::Client { problem, .. } => {
                let (reason, message) = problem.told();
                row(S::UNAUTHORIZED, "invalid_client", reason, message)
            }
            Error::OtherClient => row(S::BAD_REQUEST, "unauthorized_client", R::OtherClient, Message::OtherClient),
            Error::WrongCredentials => row(S::UNAUTHORIZED, "invalid_grant", R::Credentials, Message::WrongCredentials),
            Error::WrongPassword => row(S::FORBIDDEN, "access_denied", R::Credentials, Message::WrongPassword),
            Error::Changed => row(S::PRECONDITION_FAILED, "precondition_failed", R::Changed, Message::Changed),
            Error::Quota(message) => row(S::FORBIDDEN, "access_denied", R::Quota, *message),
            Error::SignupClosed => row(S::FORBIDDEN, "access_denied", R::SignupClosed, Message::SignupClosed),
            Error::LacksScope => row(S::FORBIDDEN, "insufficient_scope", R::Scope, Message::LacksScope),
            Error::WrongKind(message) => row(S::FORBIDDEN, "insufficient_scope", R::Kind, *message),
            Error::Field { problem, .. } => row(S::BAD_REQUEST, "invalid_request", R::InvalidField, *problem),
            Error::Malformed(message) => row(S::BAD_REQUEST, "invalid_request", R::Malformed, *message),
            Error::Json { .. } => row(S::BAD_REQUEST, "invalid_request", R::Malformed, Message::Json),
            Error::GrantType => row(S::BAD_REQUEST, "unsupported_grant_type", R::GrantType, Message::GrantType),
            Error::Scope => row(S::BAD_REQUEST, "invalid_scope", R::Scope, Message::ScopeTooMuch),
            Error::Target => row(S::BAD_REQUEST, "invalid_target", R::Target, Message::Target),
            Error::WrongHost => row(S::FORBIDDEN, "insufficient_scope", R::Host, Message::WrongHost),
            Error::HostUnverified => row(S::FORBIDDEN, "insufficient_scope", R::Unproven, Message::HostUnverified),
            Error::AtProxy(error) => error.at_proxy(),
            Error::NotFound(message) => row(S::NOT_FOUND, "not_found", R::NotFound, *message),
            Error::Method(_) => row(S::METHOD_NOT_ALLOWED, "method_not_allowed", R::Method, Message::Method),
            Error::Taken { problem, .. } => row(S::CONFLICT, "conflict", R::Taken, *problem),
            Error::TooLarge => row(S::PAYLOAD_TOO_LARGE, "invalid_request", R::TooLarge, Message::TooLarge),
            Error::HeadTooLarge => row(S::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", R::TooLarge, Message::HeadTooLarge),
            Error::TooSlow => row(S::REQUEST_TIMEOUT, "invalid_request", R::Timeout, Message::TooSlow),
            Error::MediaType(message) => row(S::UNSUPPORTED_MEDIA_TYPE, "invalid_request", R::MediaType, *message),
            Error::PlanLimit { last_token: None, .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Plan, Message::PlanLimit),
            Error::PlanLimit { last_token: Some(_), .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Plan, Message::PlanLimitButToken),
            Error::NetworkLimit(_) => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Ip, Message::NetworkLimit),
            Error::AccountLimit(_) => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Account, Message::AccountLimit),
            Error::FailureLimit { message, .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Failures, *message),
            Error::Suspended(message) => row(S::FORBIDDEN, "access_denied", R::Suspended, *message),
            Error::PlanNotGranted => row(S::FORBIDDEN, "access_denied", R::Plan, Message::PlanNotGranted),
            Error::Unproven => row(S::BAD_REQUEST, "unauthorized_client", R::Unproven, Message::Unproven),
            Error::NotProven(_) => row(S::CONFLICT, "conflict", R::Unproven, Message::NotProven),
            Error::Origin(message) => row(S::FORBIDDEN, "access_denied", R::Origin, *message),
            Error::SecretInBrowser => row(S::BAD_REQUEST, "unauthorized_client", R::Browser, Message::SecretInBrowser),
            Error::Sunset => row(S::GONE, "gone", R::Sunset, Message::Sunset),
            Error::CommitUnknown => row(S::INTERNAL_SERVER_ERROR, "server_error", R::CommitUnknown, Message::CommitUnknown),
            Error::Busy => row(S::SERVICE_UNAVAILABLE, "temporarily_unavailable", R::Busy, Message::Busy),
            Error::Internal(_) | Error::Outdated(_) => row(S::INTERNAL_SERVER_ERROR, "server_error", R::Internal, Message::Internal),
        }
    }

    /// nginx's `auth_request` makes a 500 of any other status.
    fn at_proxy(&self) -> Row {
        let row = self.row();
        let status = match self {
            Error::TokenExpired(_) => StatusCode::UNAUTHORIZED,
            _ if row.status == StatusCode::UNAUTHORIZED || row.status.is_server_error() => row.status,
            _ => StatusCode::FORBIDDEN,
        };
        Row { status, ..row }
    }

    fn field_name(&self) -> Option<&str> {
        match self {
            Error::AtProxy(error) => error.field_name(),
            Error::Field { name, .. } => Some(name),
            Error::Taken { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The whole answer, in that language and with that request id.
    pub fn answer(&self, locale: Locale, request_id: Option<&str>) -> HttpResponse {
        let row = self.row();
        let sentence = |locale| match self.field_name() {
            Some(name) => format!("{name}: {}", row.message.text(locale)),
            None => match self {
                Error::PlanLimit { last_token: Some(seconds), .. } => {
                    row.message.text(locale).replace("{}", &seconds.to_string())
                }
                Error::Json { line, column } => {
                    let text = row.message.text(locale).replace("{line}", &line.to_string());
                    text.replace("{column}", &column.to_string())
                }
                _ => row.message.text(locale).to_owned(),
            },
        };
        let mut answer = HttpResponse::build(row.status);
        if let Some(challenge) = self.challenge(&row) {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = self.retry_after() {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Error::AtProxy(_) = self {
            answer.insert_header((REASON, row.reason.as_str()));
        }
        if let Error::Method(allow) = self {
            answer.insert_header((header::ALLOW, allow.as_str()));
        }
        answer.json(ErrorBody {
            code: row.status.as_u16(),
            message: &sentence(locale),
            error: row.error,
            error_description: &sentence(Locale::En),
            reason: row.reason.as_str(),
            field: self.field_name(),
            payload: match self {
                Error::NotProven(payload) => Some(payload),
                _ => None,
            },
            request_id,
        })
    }

    /// The `WWW-Authenticate` challenge: RFC 6750 §3 (no `error` when nothing was sent), RFC 6749 §5.2.
    fn challenge(&self, row: &Row) -> Option<HeaderValue> {
        match self {
            Error::Client { in_form: true, .. } => Some(BASIC_CHALLENGE),
            Error::Client { in_form: false, .. } | Error::TokenMissing | Error::WrongCredentials => {
                Some(BEARER_CHALLENGE)
            }
            Error::TokenInvalid
            | Error::TokenExpired(_)
            | Error::TokenRevoked
            | Error::LacksScope
            | Error::WrongHost
            | Error::HostUnverified
            | Error::WrongKind(_) => {
                let challenge = format!(
                    "Bearer realm=\"gatebird\", error=\"{}\", error_description=\"{}\"",
                    row.error,
                    row.message.text(Locale::En)
                );
                Some(HeaderValue::try_from(challenge).expect("our own sentences are ASCII"))
            }
            Error::AtProxy(error) => error.challenge(row),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Error::PlanLimit { wait, .. }
            | Error::NetworkLimit(wait)
            | Error::AccountLimit(wait)
            | Error::FailureLimit { wait, .. } => Some((wait.as_secs_f64().ceil() as u64).max(1)),
            Error::AtProxy(error) => error.retry_after(),
            Error::Busy => Some(1),
            _ => None,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().message.text(Locale::En))
    }
}

impl std::error::Error for Error {}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.row().status
    }

    /// In English and without a request id: what a route outside of our own middleware answers.
    fn error_response(&self) -> HttpResponse {
        self.answer(Locale::En, None)
    }
}

/// The body of every refusal.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorBody<'a> {
    /// The HTTP status.
    code: u16,
    /// For people, in the language of `Accept-Language`.
    message: &'a str,
    /// RFC 6749, 6750 or 8707 error code, or our own where those have none.
    error: &'a str,
    /// `message` in English.
    #[serde(rename = "error_description")]
    error_description: &'a str,
    /// A stable word for programs.
    reason: &'a str,
    /// The member that is to blame, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'a str>,
    /// What there is to show nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    payload: Option<&'a Value>,
    /// The same as the header `X-Request-Id`; name it when you ask the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<&'a str>,
}
