//! The errors of requests. One table has the status, `error`, `reason` and text of each, and all have the same JSON
//! body.

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

/// A result with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A refused request or a failure of the server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request has no token.
    TokenMissing,
    /// The token is malformed, forged or not for this audience. The response does not say which.
    TokenInvalid,
    /// The token is valid except that it is past `exp`. The status is 419, or 401 with `EXPIRED_TOKEN_STATUS=401`.
    TokenExpired(StatusCode),
    /// The token was revoked or has an earlier generation, or its domain or user was deleted or suspended.
    TokenRevoked,
    /// Client authentication failed (RFC 6749 §5.2).
    Client {
        /// The cause.
        problem: ClientProblem,
        /// Whether the credentials came in a form. Forms also accept HTTP Basic, so the challenge names it.
        in_form: bool,
    },
    /// The token to revoke was issued to another client (RFC 7009 §2.1).
    OtherClient,
    /// Sign-in failed. The response does not say whether the user exists.
    WrongCredentials,
    /// The current password of the account is wrong.
    WrongPassword,
    /// The object does not match `If-Match`.
    PreconditionFailed,
    /// Quota exceeded.
    Quota(Message),
    /// Sign-up is closed (`SIGNUP=closed`).
    SignupClosed,
    /// The token is valid but lacks the scope.
    LacksScope,
    /// The token is valid but of the wrong kind.
    WrongKind(Message),
    /// A member of the input is invalid.
    Field {
        /// The member as spelled in the body, query or form.
        name: String,
        /// What the member must be.
        problem: Message,
    },
    /// No plan has the name. The value has the names of all plans.
    UnknownPlan(Vec<&'static str>),
    /// The input as a whole is invalid.
    Malformed(Message),
    /// The body is not JSON. The position is that of the first error.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes. 0 if the line is empty.
        column: usize,
    },
    /// The grant type is not `client_credentials` (RFC 6749 §5.2).
    UnsupportedGrantType,
    /// The scope is unknown or not allowed for the domain (RFC 6749 §5.2).
    InvalidScope,
    /// The resource is unknown or not allowed for the domain (RFC 8707 §2).
    InvalidTarget,
    /// The token's domain does not have the required host.
    WrongHost,
    /// The token's domain has the required host, but control of it is not verified.
    HostUnverified,
    /// Another error in the form that reverse proxies understand: 401, 403 or 5xx, with the reason in a header.
    AtProxy(Box<Error>),
    /// The object does not exist or is another tenant's.
    NotFound(Message),
    /// The path does not have the method. The value is that of `Allow`.
    MethodNotAllowed(String),
    /// A value that must be unique is in use.
    Taken {
        /// The member with the value.
        name: &'static str,
        /// What is wrong with it.
        problem: Message,
    },
    /// The body is over the limit.
    TooLarge,
    /// The request head is over the limit (RFC 6585 §5).
    HeadTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body has an unsupported type or encoding. The message says what to send.
    MediaType(Message),
    /// No domain is registered for the origin of a web page.
    Origin(Message),
    /// A browser sent a valid client secret (`BROWSER_SECRETS=refuse`).
    SecretInBrowser,
    /// The version of the API is past its sunset.
    Sunset,
    /// The domain is over the limit of its plan.
    PlanLimit {
        /// The time until the limit allows another request.
        wait: Duration,
        /// In a token request, for how many seconds the last token is still valid.
        last_token: Option<i64>,
    },
    /// The network is over a limit. The value is the time until the limit allows another request.
    NetworkLimit(Duration),
    /// The account is over the limit of changes. The value is the time until the limit allows another change.
    AccountLimit(Duration),
    /// Too many wrong credentials or verification attempts.
    FailureLimit {
        /// The time until the limit allows another attempt.
        wait: Duration,
        /// Which attempts are limited.
        message: Message,
    },
    /// The operator suspended the object, so its owner may not delete it.
    Suspended(Message),
    /// Only the operator assigns this plan (`SELF_SERVICE_PREMIUM=false`).
    PlanNotGranted,
    /// The domain gets no tokens, because control of its host is not verified (`PROOF=required`).
    DomainUnverified,
    /// The challenge was not found on the host. The value has the checks and their results.
    VerificationFailed(Box<Value>),
    /// The server is overloaded or the database is unavailable. Nothing was changed.
    Busy,
    /// The change may be committed, but it is not certain to be in force on this node.
    CommitUnknown,
    /// A bug or a broken installation. The cause is for the log only.
    Internal(String),
    /// This node missed changes of the database and must be restarted. The cause is for the log only.
    StaleNode(&'static str),
}

/// The cause of a failed client authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProblem {
    /// There are no credentials.
    Missing,
    /// The `Authorization` header is not valid HTTP Basic.
    Basic,
    /// The checksum of the secret is wrong.
    MalformedSecret,
    /// No client has this secret.
    UnknownSecret,
    /// The secret was replaced, and its grace period has ended.
    ReplacedSecret,
    /// The `client_id` does not have the form of a domain id.
    NoId,
    /// The `client_id` is another client's.
    OtherId,
    /// The `client_assertion_type` is not supported.
    AssertionType,
    /// The assertion is malformed, or its signature or its client is wrong.
    Assertion,
    /// The assertion is for another server.
    AssertionAudience,
    /// The assertion is past its `exp`.
    AssertionExpired,
    /// The `nbf` or `iat` of the assertion is in the future.
    AssertionNotYet,
    /// The assertion was used before.
    AssertionReplayed,
    /// The lifetime of the assertion is too long.
    AssertionLifetime,
    /// The operator suspended the domain or its owner.
    Suspended,
    /// Another user verified the domain's host.
    Superseded,
}

impl ClientProblem {
    fn reason_and_message(self) -> (Reason, Message) {
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

/// The public form of an error.
struct Row {
    status: StatusCode,
    error: &'static str,
    reason: Reason,
    message: Message,
}

const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"gatebird\", charset=\"UTF-8\"");
const REASON: HeaderName = HeaderName::from_static("x-gatebird-reason");
const BEARER_CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"gatebird\"");

impl Error {
    /// An invalid member of the input.
    pub fn field(name: impl Into<String>, problem: Message) -> Error {
        Error::Field { name: name.into(), problem }
    }

    /// An unexpected failure. `cause` is logged and never shown to the caller.
    pub fn internal(cause: impl Display) -> Error {
        Error::Internal(cause.to_string())
    }

    /// The stable word for programs: `reason` in the body, and the label of counters.
    pub fn reason(&self) -> Reason {
        self.row().reason
    }

    /// The logged cause of an internal error.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Error::Internal(cause) => Some(cause),
            Error::StaleNode(cause) => Some(cause),
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
                let (reason, message) = problem.reason_and_message();
                row(S::UNAUTHORIZED, "invalid_client", reason, message)
            }
            Error::OtherClient => row(S::BAD_REQUEST, "unauthorized_client", R::OtherClient, Message::OtherClient),
            Error::WrongCredentials => row(S::UNAUTHORIZED, "invalid_grant", R::Credentials, Message::WrongCredentials),
            Error::WrongPassword => row(S::FORBIDDEN, "access_denied", R::Credentials, Message::WrongPassword),
            Error::PreconditionFailed => row(S::PRECONDITION_FAILED, "precondition_failed", R::Changed, Message::Changed),
            Error::Quota(message) => row(S::FORBIDDEN, "access_denied", R::Quota, *message),
            Error::SignupClosed => row(S::FORBIDDEN, "access_denied", R::SignupClosed, Message::SignupClosed),
            Error::LacksScope => row(S::FORBIDDEN, "insufficient_scope", R::Scope, Message::LacksScope),
            Error::WrongKind(message) => row(S::FORBIDDEN, "insufficient_scope", R::Kind, *message),
            Error::Field { problem, .. } => row(S::BAD_REQUEST, "invalid_request", R::InvalidField, *problem),
            Error::UnknownPlan(_) => row(S::BAD_REQUEST, "invalid_request", R::InvalidField, Message::UnknownPlan),
            Error::Malformed(message) => row(S::BAD_REQUEST, "invalid_request", R::Malformed, *message),
            Error::Json { .. } => row(S::BAD_REQUEST, "invalid_request", R::Malformed, Message::Json),
            Error::UnsupportedGrantType => row(S::BAD_REQUEST, "unsupported_grant_type", R::GrantType, Message::GrantType),
            Error::InvalidScope => row(S::BAD_REQUEST, "invalid_scope", R::Scope, Message::ScopeTooMuch),
            Error::InvalidTarget => row(S::BAD_REQUEST, "invalid_target", R::InvalidTarget, Message::InvalidTarget),
            Error::WrongHost => row(S::FORBIDDEN, "insufficient_scope", R::Host, Message::WrongHost),
            Error::HostUnverified => row(S::FORBIDDEN, "insufficient_scope", R::Unverified, Message::HostUnverified),
            Error::AtProxy(error) => error.at_proxy(),
            Error::NotFound(message) => row(S::NOT_FOUND, "not_found", R::NotFound, *message),
            Error::MethodNotAllowed(_) => row(S::METHOD_NOT_ALLOWED, "method_not_allowed", R::Method, Message::Method),
            Error::Taken { problem, .. } => row(S::CONFLICT, "conflict", R::Taken, *problem),
            Error::TooLarge => row(S::PAYLOAD_TOO_LARGE, "invalid_request", R::TooLarge, Message::TooLarge),
            Error::HeadTooLarge => row(S::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", R::TooLarge, Message::HeadTooLarge),
            Error::RequestTimeout => row(S::REQUEST_TIMEOUT, "invalid_request", R::Timeout, Message::RequestTimeout),
            Error::MediaType(message) => row(S::UNSUPPORTED_MEDIA_TYPE, "invalid_request", R::MediaType, *message),
            Error::PlanLimit { last_token: None, .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Plan, Message::PlanLimit),
            Error::PlanLimit { last_token: Some(_), .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Plan, Message::PlanLimitButToken),
            Error::NetworkLimit(_) => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Ip, Message::NetworkLimit),
            Error::AccountLimit(_) => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Account, Message::AccountLimit),
            Error::FailureLimit { message, .. } => row(S::TOO_MANY_REQUESTS, "rate_limited", R::Failures, *message),
            Error::Suspended(message) => row(S::FORBIDDEN, "access_denied", R::Suspended, *message),
            Error::PlanNotGranted => row(S::FORBIDDEN, "access_denied", R::Plan, Message::PlanNotGranted),
            Error::DomainUnverified => row(S::BAD_REQUEST, "unauthorized_client", R::Unverified, Message::DomainUnverified),
            Error::VerificationFailed(_) => row(S::CONFLICT, "conflict", R::Unverified, Message::VerificationFailed),
            Error::Origin(message) => row(S::FORBIDDEN, "access_denied", R::Origin, *message),
            Error::SecretInBrowser => row(S::BAD_REQUEST, "unauthorized_client", R::Browser, Message::SecretInBrowser),
            Error::Sunset => row(S::GONE, "gone", R::Sunset, Message::Sunset),
            Error::CommitUnknown => row(S::INTERNAL_SERVER_ERROR, "server_error", R::CommitUnknown, Message::CommitUnknown),
            Error::Busy => row(S::SERVICE_UNAVAILABLE, "temporarily_unavailable", R::Busy, Message::Busy),
            Error::Internal(_) | Error::StaleNode(_) => row(S::INTERNAL_SERVER_ERROR, "server_error", R::Internal, Message::Internal),
        }
    }

    /// The row with status 401, 403 or 5xx. The `auth_request` of nginx turns every other status into 500.
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
            Error::UnknownPlan(_) => Some("type"),
            Error::Taken { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The response in the language `locale`.
    pub fn answer(&self, locale: Locale, request_id: Option<&str>) -> HttpResponse {
        let row = self.row();
        let sentence = |locale| match self.field_name() {
            Some(name) => format!("{name}: {}", self.text(row.message, locale)),
            None => self.text(row.message, locale),
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
        if let Error::MethodNotAllowed(allow) = self {
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
                Error::VerificationFailed(payload) => Some(payload),
                _ => None,
            },
            request_id,
        })
    }

    /// The message in that language, with the values of this error filled in.
    fn text(&self, message: Message, locale: Locale) -> String {
        let text = message.text(locale);
        match self {
            Error::PlanLimit { last_token: Some(seconds), .. } => text.replace("{}", &seconds.to_string()),
            Error::UnknownPlan(names) => text.replace("{}", &names.join(", ")),
            Error::Json { line, column } => {
                text.replace("{line}", &line.to_string()).replace("{column}", &column.to_string())
            }
            _ => text.to_owned(),
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6749 §5.2; RFC 6750 §3: no `error` if the request has no token).
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
                Some(HeaderValue::try_from(challenge).expect("English messages are ASCII"))
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
        f.write_str(&self.text(self.row().message, Locale::En))
    }
}

impl std::error::Error for Error {}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.row().status
    }

    /// The response in English and without a request id, for routes outside the middleware.
    fn error_response(&self) -> HttpResponse {
        self.answer(Locale::En, None)
    }
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorBody<'a> {
    /// The HTTP status.
    code: u16,
    /// Text for people, in the language of `Accept-Language`.
    message: &'a str,
    /// An error code of RFC 6749, 6750 or 8707, or of this server if those have none.
    error: &'a str,
    /// `message` in English.
    #[serde(rename = "error_description")]
    error_description: &'a str,
    /// A stable word for programs.
    reason: &'a str,
    /// The invalid member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<&'a str>,
    /// Further facts, which depend on the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    payload: Option<&'a Value>,
    /// The value of the header `X-Request-Id`. Include it in questions to the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<&'a str>,
}
