//! The stable words that tell programs why a request was refused. One list, so that answers, counters and tests agree.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Why a request was refused. The word never changes with the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// Every reason that an answer can give.
            pub const ALL: &[Reason] = &[$(Reason::$name,)+];

            /// The word, as answers and counters have it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => $word,)+
                }
            }
        }
    };
}

reasons! {
    /// Nothing was sent to authenticate with.
    Missing = "missing",
    /// Not a token of ours, or not for this audience.
    Invalid = "invalid",
    /// The token is past `exp`.
    Expired = "expired",
    /// The token was revoked.
    Revoked = "revoked",
    /// The client credentials belong to no client.
    UnknownClient = "unknown_client",
    /// The checksum of the client secret does not hold.
    MalformedSecret = "malformed_secret",
    /// The operator suspended the domain or its owner.
    Suspended = "suspended",
    /// Somebody else verified the domain's host.
    Superseded = "superseded",
    /// The client assertion is for another server.
    AssertionAudience = "assertion_audience",
    /// The client assertion is past its `exp`.
    AssertionExpired = "assertion_expired",
    /// The client assertion begins in the future.
    AssertionNotYet = "assertion_not_yet",
    /// The client assertion was used before.
    AssertionReplayed = "assertion_replayed",
    /// The client assertion lives longer than it may.
    AssertionLifetime = "assertion_lifetime",
    /// The token was issued to another client.
    OtherClient = "other_client",
    /// The user name or the password is wrong.
    Credentials = "credentials",
    /// The object changed since the caller read it.
    Changed = "changed",
    /// The account has as many objects as it may have.
    Quota = "quota",
    /// Nobody may sign up.
    SignupClosed = "signup_closed",
    /// The token lacks the scope, or the scope may not be granted.
    Scope = "scope",
    /// The token is of the wrong kind.
    Kind = "kind",
    /// One member of the input is wrong.
    InvalidField = "invalid_field",
    /// The input cannot be read.
    Malformed = "malformed",
    /// The grant type is not supported.
    GrantType = "grant_type",
    /// No tokens are issued for that resource.
    Target = "target",
    /// The token's domain has another host than was demanded.
    Host = "host",
    /// Not found, or another tenant's.
    NotFound = "not_found",
    /// The path has no such method.
    Method = "method",
    /// The name is in use.
    Taken = "taken",
    /// The body or the head is too large.
    TooLarge = "too_large",
    /// The request did not arrive in time.
    Timeout = "timeout",
    /// The body has a type or an encoding that is not read.
    MediaType = "media_type",
    /// The plan does not allow this, or not so often.
    Plan = "plan",
    /// The network asks too often.
    Ip = "ip",
    /// The account asks too often.
    Account = "account",
    /// Too many attempts failed.
    Failures = "failures",
    /// Control of the host is not verified.
    Unproven = "unproven",
    /// No domain is registered for the web page's origin.
    Origin = "origin",
    /// A browser sent a client secret.
    Browser = "browser",
    /// The version of the API has ended.
    Sunset = "sunset",
    /// Nobody knows whether the change is in force.
    CommitUnknown = "commit_unknown",
    /// The server is overloaded, or its database is away.
    Busy = "busy",
    /// The server failed.
    Internal = "internal",
}
