//! The values of `reason`: stable words that tell programs why a request was refused. Responses, counters and tests
//! share this list.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Why a request was refused. The word does not depend on the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Reason] = &[$(Reason::$name,)+];

            /// The word in responses and in labels of counters.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $word,)+
                }
            }
        }
    };
}

reasons! {
    /// The request has no token or no credentials.
    Missing = "missing",
    /// The token is malformed, forged or not for this audience.
    Invalid = "invalid",
    /// The token is past `exp`.
    Expired = "expired",
    /// The token was revoked.
    Revoked = "revoked",
    /// The credentials are of no client.
    UnknownClient = "unknown_client",
    /// The checksum of the client secret is wrong.
    MalformedSecret = "malformed_secret",
    /// The operator suspended the domain or its owner.
    Suspended = "suspended",
    /// Another user verified the domain's host.
    Superseded = "superseded",
    /// The client assertion is for another server.
    AssertionAudience = "assertion_audience",
    /// The client assertion is past its `exp`.
    AssertionExpired = "assertion_expired",
    /// The `nbf` or `iat` of the client assertion is in the future.
    AssertionNotYet = "assertion_not_yet",
    /// The client assertion was used before.
    AssertionReplayed = "assertion_replayed",
    /// The lifetime of the client assertion is too long.
    AssertionLifetime = "assertion_lifetime",
    /// The token was issued to another client.
    OtherClient = "other_client",
    /// The user name or the password is wrong.
    Credentials = "credentials",
    /// The object changed since the caller read it.
    Changed = "changed",
    /// The account or the server has the maximum number of objects.
    Quota = "quota",
    /// Sign-up is closed.
    SignupClosed = "signup_closed",
    /// The token lacks the scope, or the scope is not allowed for the domain.
    Scope = "scope",
    /// The token is of the wrong kind.
    Kind = "kind",
    /// A member of the input is invalid.
    InvalidField = "invalid_field",
    /// The input as a whole is invalid.
    Malformed = "malformed",
    /// The grant type is not supported.
    GrantType = "grant_type",
    /// The resource is unknown or not allowed for the domain.
    InvalidTarget = "target",
    /// The token's domain does not have the required host.
    Host = "host",
    /// The object does not exist or is another tenant's.
    NotFound = "not_found",
    /// The path does not have the method.
    Method = "method",
    /// A value that must be unique is in use.
    Taken = "taken",
    /// The body or the head is too large.
    TooLarge = "too_large",
    /// The request did not arrive in time.
    Timeout = "timeout",
    /// The body has an unsupported type or encoding.
    MediaType = "media_type",
    /// The domain is over the limit of its plan, or only the operator assigns the plan.
    Plan = "plan",
    /// The network is over a limit.
    Ip = "ip",
    /// The account is over the limit of changes.
    Account = "account",
    /// Too many attempts failed.
    Failures = "failures",
    /// Control of the host is not verified.
    Unverified = "unverified",
    /// No domain is registered for the web page's origin.
    Origin = "origin",
    /// A browser sent a client secret.
    Browser = "browser",
    /// The version of the API has ended.
    Sunset = "sunset",
    /// The change may be committed, but it is not certain to be in force.
    CommitUnknown = "commit_unknown",
    /// The server is overloaded, or its database is unavailable.
    Busy = "busy",
    /// A bug or a broken installation.
    Internal = "internal",
}
