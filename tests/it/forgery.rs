//! Forged, altered and misused tokens as table rows: none is accepted, no refusal reveals too much, and the good token
//! still works afterwards. Where the algorithm matters, a table runs against a server of each algorithm. This file has
//! the shared parts; tests of a single algorithm are in [`crate::algorithms`].

mod authorization_header;
mod claims;
mod encoding;
mod header;
mod keys;
pub mod revoked;
pub mod signer;
pub mod time;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatebird::config::Algorithm;

use self::signer::Signer;
use crate::harness::{Domain, Gate, User, Value, check_each, parts};

/// Every value of `JWT_ALGORITHM`.
pub const ALGORITHMS: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

/// The expected status and, for a refusal, the reason.
pub type Verdict = (u16, &'static str);
/// A name, and a function that makes the token from a target.
type Row<'a> = (&'a str, fn(&Target) -> String);
pub const GOOD: Verdict = (200, "");
pub const INVALID: Verdict = (401, "invalid");
pub const REVOKED: Verdict = (401, "revoked");
pub const EXPIRED: Verdict = (419, "expired");

/// A server with a tenant whose tokens are forged.
pub struct Target {
    pub gate: Gate,
    pub algorithm: Algorithm,
    pub user: User,
    pub domain: Domain,
    /// A good access token.
    pub token: String,
    /// The key that signed it.
    pub key: Signer,
}

impl Target {
    /// With HS256, for tables to which the algorithm makes no difference.
    pub fn new() -> Target {
        Target::of(Algorithm::Hs256)
    }

    pub fn of(algorithm: Algorithm) -> Target {
        Target::at(Gate::with(&[("JWT_ALGORITHM", algorithm.name())]), algorithm)
    }

    /// With that server, which signs with that algorithm.
    pub fn at(gate: Gate, algorithm: Algorithm) -> Target {
        let (user, domain, token) = gate.tenant("alice");
        assert_eq!(parts(&token).0["alg"], algorithm.name());
        let key = Signer::of(&gate, &kid(&token));
        Target { gate, algorithm, user, domain, token, key }
    }

    /// Runs a table against a server of each algorithm.
    pub fn each(table: impl Fn(&Target)) {
        for algorithm in ALGORITHMS {
            // Printed only when the test fails.
            println!("{}", algorithm.name());
            table(&Target::of(algorithm));
        }
    }

    /// Sends one token in the usual header.
    #[track_caller]
    pub fn gets(&self, name: &str, token: &str, (status, reason): Verdict) {
        let reply = self.gate.get("/v1/test").token(token).send();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        if status != 200 {
            let body = reply.refused(status, reason);
            assert_eq!(body["error"], "invalid_token", "{name}");
            assert!(token.len() < 20 || !reply.text().contains(token), "{name}: the answer repeats the token");
        }
    }

    /// Checks that all rows are refused as invalid, and sends the good token afterwards.
    #[track_caller]
    fn refuses(&self, rows: &[Row]) {
        check_each(rows, |(name, forge)| self.gets(name, &forge(self), INVALID));
        self.gets("the good token", &self.token, GOOD);
    }

    /// Sends the good token with changed claims, signed with the server's own key.
    #[track_caller]
    fn claims_get(&self, name: &str, verdict: Verdict, change: impl FnOnce(&mut Value)) {
        self.gets(name, &self.with_claims(change), verdict);
    }

    /// The good token with a changed header, signed with the server's own key.
    pub fn with_header(&self, change: impl FnOnce(&mut Value)) -> String {
        self.key.resigned(&self.token, |header, _| change(header))
    }

    /// The good token with changed claims, signed with the server's own key.
    pub fn with_claims(&self, change: impl FnOnce(&mut Value)) -> String {
        self.key.resigned(&self.token, |_, claims| change(claims))
    }

    /// Any header and claims, signed with the server's own key.
    pub fn mint(&self, header: &str, claims: &str) -> String {
        self.key.mint(header, claims)
    }

    /// A message of non-canonical parts, signed with the server's own key.
    fn signed(&self, message: &str) -> String {
        self.key.signed(message)
    }
}

/// The `kid` of a token.
pub fn kid(token: &str) -> String {
    parts(token).0["kid"].as_str().expect("a string").into()
}

/// Header and claims of a token as text.
pub fn texts(token: &str) -> (String, String) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let mut next = || String::from_utf8(parts.next().expect("three parts")).expect("UTF-8");
    (next(), next())
}

/// The three parts of a token.
pub fn split(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

/// Appends a member to the text of an object, even if it repeats one.
fn append(object: &str, member: &str) -> String {
    format!("{},{member}}}", object.strip_suffix('}').expect("an object"))
}

/// Prepends a member to the text of an object.
fn prepend(object: &str, member: &str) -> String {
    format!("{{{member},{}", object.strip_prefix('{').expect("an object"))
}
