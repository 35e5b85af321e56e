//! The errors of requests, in one table, and their JSON body.

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

/// Defines [`Error`]: one row for each error, with its status, `error`, reason and message.
macro_rules! errors {
    ($(
        $(#[$doc:meta])*
        $name:ident $(($value:ident: $value_type:ty))? $({$($(#[$field_doc:meta])* $field:ident: $type:ty,)+})?
            => $status:expr, $error:expr, $reason:expr, $message:expr;
    )+) => {
        /// A refused request or a failure of the server.
        #[derive(Debug)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $name $(($value_type))? $({$($(#[$field_doc])* $field: $type,)+})?,)+
        }

        impl Error {
            #[expect(unused_variables, reason = "few rows depend on the values of the error")]
            fn row(&self) -> Row {
                use {Reason as R, StatusCode as S};
                match self {
                    $(Error::$name $(($value))? $({$($field),+})? => {
                        Row { status: $status, error: $error, reason: $reason, message: $message }
                    })+
                }
            }
        }
    };
}

errors! {
    /// The request has no token.
    TokenMissing => S::UNAUTHORIZED, "invalid_token", R::Missing, Message::TokenMissing;
    /// The token is malformed, forged or not for this audience. The response does not say which.
    TokenInvalid => S::UNAUTHORIZED, "invalid_token", R::Invalid, Message::TokenInvalid;
    /// The token is valid except that it is past `exp`. The status is 419, or 401 with `EXPIRED_TOKEN_STATUS=401`.
    TokenExpired(status: StatusCode) => *status, "invalid_token", R::Expired, Message::TokenExpired;
    /// The token was revoked or has an earlier generation, or its domain or user was deleted or suspended.
    TokenRevoked => S::UNAUTHORIZED, "invalid_token", R::Revoked, Message::TokenRevoked;
    /// Client authentication failed (RFC 6749 §5.2).
    Client {
        /// The cause.
        problem: ClientProblem,
        /// Whether the credentials came in a form. Forms also accept HTTP Basic, so the challenge names it.
        in_form: bool,
    } => S::UNAUTHORIZED, "invalid_client", problem.reason(), problem.message();
    /// The token to revoke was issued to another client (RFC 7009 §2.1).
    OtherClient => S::BAD_REQUEST, "unauthorized_client", R::OtherClient, Message::OtherClient;
    /// Sign-in failed. The response does not say whether the user exists.
    WrongCredentials => S::UNAUTHORIZED, "invalid_grant", R::Credentials, Message::WrongCredentials;
    /// The current password of the account is wrong.
    WrongPassword => S::FORBIDDEN, "access_denied", R::Credentials, Message::WrongPassword;
    /// The object does not match `If-Match`.
    PreconditionFailed => S::PRECONDITION_FAILED, "precondition_failed", R::Changed, Message::Changed;
    /// Quota exceeded.
    Quota(message: Message) => S::FORBIDDEN, "access_denied", R::Quota, *message;
    /// Sign-up is closed (`SIGNUP=closed`).
    SignupClosed => S::FORBIDDEN, "access_denied", R::SignupClosed, Message::SignupClosed;
    /// The token is valid but lacks the scope.
    LacksScope => S::FORBIDDEN, "insufficient_scope", R::Scope, Message::LacksScope;
    /// The token is valid but of the wrong kind.
    WrongKind(message: Message) => S::FORBIDDEN, "insufficient_scope", R::Kind, *message;
    /// A member of the input is invalid.
    Field {
        /// The member as spelled in the body, query or form.
        name: String,
        /// What the member must be.
        problem: Message,
    } => S::BAD_REQUEST, "invalid_request", R::InvalidField, *problem;
    /// No plan has the name. The value has the names of all plans.
    UnknownPlan(names: Vec<&'static str>) => S::BAD_REQUEST, "invalid_request", R::InvalidField, Message::UnknownPlan;
    /// The input as a whole is invalid.
    Malformed(message: Message) => S::BAD_REQUEST, "invalid_request", R::Malformed, *message;
    /// The body is not JSON. The position is that of the first error.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes. 0 if the line is empty.
        column: usize,
    } => S::BAD_REQUEST, "invalid_request", R::Malformed, Message::Json;
    /// The grant type is not `client_credentials` (RFC 6749 §5.2).
    UnsupportedGrantType => S::BAD_REQUEST, "unsupported_grant_type", R::GrantType, Message::GrantType;
    /// The scope is unknown or not allowed for the domain (RFC 6749 §5.2).
    InvalidScope => S::BAD_REQUEST, "invalid_scope", R::Scope, Message::ScopeTooMuch;
    /// The resource is unknown or not allowed for the domain (RFC 8707 §2).
    InvalidTarget => S::BAD_REQUEST, "invalid_target", R::InvalidTarget, Message::InvalidTarget;
    /// The token's domain does not have the required host.
    WrongHost => S::FORBIDDEN, "insufficient_scope", R::Host, Message::WrongHost;
    /// The token's domain has the required host, but control of it is not verified.
    HostUnverified => S::FORBIDDEN, "insufficient_scope", R::Unverified, Message::HostUnverified;
    /// Another error in the form that reverse proxies understand: 401, 403 or 5xx, with the reason in a header.
    AtProxy(error: Box<Error>) => error.status_at_proxy(), error.row().error, error.reason(), error.row().message;
    /// The object does not exist or is another tenant's.
    NotFound(message: Message) => S::NOT_FOUND, "not_found", R::NotFound, *message;
    /// The path does not have the method. The value is that of `Allow`.
    MethodNotAllowed(allow: String) => S::METHOD_NOT_ALLOWED, "method_not_allowed", R::Method, Message::Method;
    /// A value that must be unique is in use.
    Taken {
        /// The member with the value.
        name: &'static str,
        /// What is wrong with it.
        problem: Message,
    } => S::CONFLICT, "conflict", R::Taken, *problem;
    /// The body is over the limit.
    TooLarge => S::PAYLOAD_TOO_LARGE, "invalid_request", R::TooLarge, Message::TooLarge;
    /// The request head is over the limit (RFC 6585 §5).
    HeadTooLarge => S::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request", R::TooLarge, Message::HeadTooLarge;
    /// The body did not arrive in time.
    RequestTimeout => S::REQUEST_TIMEOUT, "invalid_request", R::Timeout, Message::RequestTimeout;
    /// The body has an unsupported type or encoding. The message says what to send.
    MediaType(message: Message) => S::UNSUPPORTED_MEDIA_TYPE, "invalid_request", R::MediaType, *message;
    /// No domain is registered for the origin of a web page.
    Origin(message: Message) => S::FORBIDDEN, "access_denied", R::Origin, *message;
    /// A browser sent a valid client secret (`BROWSER_SECRETS=refuse`).
    SecretInBrowser => S::BAD_REQUEST, "unauthorized_client", R::Browser, Message::SecretInBrowser;
    /// The version of the API is past its sunset.
    Sunset => S::GONE, "gone", R::Sunset, Message::Sunset;
    /// The domain is over the limit of its plan.
    PlanLimit {
        /// The time until the limit allows another request.
        wait: Duration,
        /// In a token request, for how many seconds the last token is still valid.
        last_token: Option<i64>,
    } => S::TOO_MANY_REQUESTS, "rate_limited", R::Plan, last_token.map_or(Message::PlanLimit, |_| Message::PlanLimitButToken);
    /// The network is over a limit. The value is the time until the limit allows another request.
    NetworkLimit(wait: Duration) => S::TOO_MANY_REQUESTS, "rate_limited", R::Ip, Message::NetworkLimit;
    /// The account is over the limit of changes. The value is the time until the limit allows another change.
    AccountLimit(wait: Duration) => S::TOO_MANY_REQUESTS, "rate_limited", R::Account, Message::AccountLimit;
    /// Too many wrong credentials or verification attempts.
    FailureLimit {
        /// The time until the limit allows another attempt.
        wait: Duration,
        /// Which attempts are limited.
        message: Message,
    } => S::TOO_MANY_REQUESTS, "rate_limited", R::Failures, *message;
    /// The operator suspended the object, so its owner may not delete it.
    Suspended(message: Message) => S::FORBIDDEN, "access_denied", R::Suspended, *message;
    /// Only the operator assigns this plan (`SELF_SERVICE_PREMIUM=false`).
    PlanNotGranted => S::FORBIDDEN, "access_denied", R::Plan, Message::PlanNotGranted;
    /// The domain gets no tokens, because control of its host is not verified (`PROOF=required`).
    DomainUnverified => S::BAD_REQUEST, "unauthorized_client", R::Unverified, Message::DomainUnverified;
    /// The challenge was not found on the host. The value has the checks and their results.
    VerificationFailed(checks: Box<Value>) => S::CONFLICT, "conflict", R::Unverified, Message::VerificationFailed;
    /// The server is overloaded or the database is unavailable. Nothing was changed.
    Busy => S::SERVICE_UNAVAILABLE, "temporarily_unavailable", R::Busy, Message::Busy;
    /// The change may be committed, but it is not certain to be in force on this node.
    CommitUnknown => S::INTERNAL_SERVER_ERROR, "server_error", R::CommitUnknown, Message::CommitUnknown;
    /// A bug or a broken installation. The cause is for the log only.
    Internal(cause: String) => S::INTERNAL_SERVER_ERROR, "server_error", R::Internal, Message::Internal;
    /// This node missed changes of the database and must be restarted. The cause is for the log only.
    StaleNode(cause: &'static str) => S::INTERNAL_SERVER_ERROR, "server_error", R::Internal, Message::Internal;
}

/// Defines [`ClientProblem`]: one row for each problem, with its reason and message.
macro_rules! client_problems {
    ($($name:ident: $reason:ident, $message:ident;)+) => {
        /// The cause of a failed client authentication.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ClientProblem {
            $(#[doc = concat!("See [`Message::", stringify!($message), "`].")] $name,)+
        }

        impl ClientProblem {
            fn reason(self) -> Reason {
                match self {
                    $(ClientProblem::$name => Reason::$reason,)+
                }
            }

            fn message(self) -> Message {
                match self {
                    $(ClientProblem::$name => Message::$message,)+
                }
            }
        }
    };
}

client_problems! {
    Missing: Missing, ClientMissing;
    Basic: UnknownClient, UnreadableBasic;
    MalformedSecret: MalformedSecret, MalformedSecret;
    UnknownSecret: UnknownClient, UnknownSecret;
    ReplacedSecret: UnknownClient, ReplacedSecret;
    NoId: UnknownClient, NoClientId;
    OtherId: UnknownClient, OtherClientId;
    AssertionType: UnknownClient, AssertionType;
    Assertion: UnknownClient, Assertion;
    AssertionAudience: AssertionAudience, AssertionAudience;
    AssertionExpired: AssertionExpired, AssertionExpired;
    AssertionNotYet: AssertionNotYet, AssertionNotYet;
    AssertionReplayed: AssertionReplayed, AssertionReplayed;
    AssertionLifetime: AssertionLifetime, AssertionLifetime;
    Suspended: Suspended, ClientSuspended;
    Superseded: Superseded, ClientSuperseded;
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
        match self.of_request() {
            Error::Internal(cause) => Some(cause),
            Error::StaleNode(cause) => Some(cause),
            _ => None,
        }
    }

    /// The error without its form for reverse proxies.
    fn of_request(&self) -> &Error {
        match self {
            Error::AtProxy(error) => error,
            error => error,
        }
    }

    /// 401, 403 or 5xx. The `auth_request` of nginx turns every other status into 500.
    fn status_at_proxy(&self) -> StatusCode {
        match self.row().status {
            _ if matches!(self, Error::TokenExpired(_)) => StatusCode::UNAUTHORIZED,
            status if status == StatusCode::UNAUTHORIZED || status.is_server_error() => status,
            _ => StatusCode::FORBIDDEN,
        }
    }

    fn field_name(&self) -> Option<&str> {
        match self {
            Error::Field { name, .. } => Some(name),
            Error::UnknownPlan(_) => Some("type"),
            Error::Taken { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The response in the language `locale`.
    pub fn answer(&self, locale: Locale, request_id: Option<&str>) -> HttpResponse {
        let (row, error) = (self.row(), self.of_request());
        let field = error.field_name();
        let sentence = |locale| match field {
            Some(name) => format!("{name}: {}", error.text(row.message, locale)),
            None => error.text(row.message, locale),
        };
        let mut answer = HttpResponse::build(row.status);
        if let Some(challenge) = error.challenge(&row) {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = error.retry_after() {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Error::AtProxy(_) = self {
            answer.insert_header((REASON, row.reason.as_str()));
        }
        if let Error::MethodNotAllowed(allow) = error {
            answer.insert_header((header::ALLOW, allow.as_str()));
        }
        answer.json(ErrorBody {
            code: row.status.as_u16(),
            message: &sentence(locale),
            error: row.error,
            error_description: &sentence(Locale::En),
            reason: row.reason.as_str(),
            field,
            payload: if let Error::VerificationFailed(payload) = error { Some(payload) } else { None },
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
            _ if matches!(row.error, "invalid_token" | "insufficient_scope") => {
                let challenge = format!(
                    "Bearer realm=\"gatebird\", error=\"{}\", error_description=\"{}\"",
                    row.error,
                    row.message.text(Locale::En)
                );
                Some(HeaderValue::try_from(challenge).expect("English messages are ASCII"))
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Error::PlanLimit { wait, .. }
            | Error::NetworkLimit(wait)
            | Error::AccountLimit(wait)
            | Error::FailureLimit { wait, .. } => Some((wait.as_secs_f64().ceil() as u64).max(1)),
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
