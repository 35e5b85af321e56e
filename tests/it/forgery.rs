//! Forged, altered and misused tokens, each a row of a table: none is accepted, none is told more than it may be, and
//! the good token still works afterwards. Here are the parts that the tables share; the tables are in the modules.

mod claims;
mod encoding;
mod header;
mod keys;
mod presented;
pub mod revoked;
pub mod time;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

use crate::harness::{Domain, Gate, JWT_SECRET, User, Value, mint_with, resigned};

/// What a token has to get: a status and, if it is refused, the reason.
type Verdict = (u16, &'static str);
/// A name, and how the token is made from what a target has.
type Row<'a> = (&'a str, fn(&Target) -> String);
const GOOD: Verdict = (200, "");
const INVALID: Verdict = (401, "invalid");
const REVOKED: Verdict = (401, "revoked");
const EXPIRED: Verdict = (419, "expired");

/// A gate with a tenant whose tokens are forged.
struct Target {
    gate: Gate,
    user: User,
    domain: Domain,
    /// A good access token.
    token: String,
}

impl Target {
    fn new() -> Target {
        let gate = Gate::start();
        let (user, domain, token) = gate.tenant("alice");
        Target { gate, user, domain, token }
    }

    /// Tries one token in the usual header.
    #[track_caller]
    fn gets(&self, name: &str, token: &str, (status, reason): Verdict) {
        let reply = self.gate.get("/v1/test").token(token).send();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        if status != 200 {
            let body = reply.refused(status, reason);
            assert_eq!(body["error"], "invalid_token", "{name}");
            assert!(token.len() < 20 || !reply.text().contains(token), "{name}: the answer repeats the token");
        }
    }

    /// Tries rows that all have to be refused as invalid, and the good token after them.
    #[track_caller]
    fn refuses(&self, rows: &[Row]) {
        for (name, forge) in rows {
            self.gets(name, &forge(self), INVALID);
        }
        self.gets("the good token", &self.token, GOOD);
    }

    /// Tries changed claims, signed with the gate's own key.
    #[track_caller]
    fn claims_get(&self, name: &str, verdict: Verdict, change: impl FnOnce(&mut Value)) {
        self.gets(name, &self.with_claims(change), verdict);
    }

    /// The good token with its header changed, signed with the gate's own key.
    fn with_header(&self, change: impl FnOnce(&mut Value)) -> String {
        resigned(&self.token, |header, _| change(header))
    }

    /// The good token with its claims changed, signed with the gate's own key.
    fn with_claims(&self, change: impl FnOnce(&mut Value)) -> String {
        resigned(&self.token, |_, claims| change(claims))
    }

    /// The good token's header and claims, signed with another key.
    fn signed_with(&self, key: impl AsRef<[u8]>) -> String {
        let (header, claims) = texts(&self.token);
        mint_with(&header, &claims, key.as_ref())
    }
}

/// Header and claims of a token as they were written.
fn texts(token: &str) -> (String, String) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let mut next = || String::from_utf8(parts.next().expect("three parts")).expect("UTF-8");
    (next(), next())
}

/// The three parts of a token.
fn split(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().expect("three parts")
}

/// Signs a message that is not made of canonical parts with the gate's own key.
fn signed(message: &str) -> String {
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("HMAC takes any key");
    format!("{message}.{signature}")
}

/// Adds a member at the end of an object's text, as it stands there: it may repeat one.
fn append(object: &str, member: &str) -> String {
    format!("{},{member}}}", object.strip_suffix('}').expect("an object"))
}

/// Adds a member at the start.
fn prepend(object: &str, member: &str) -> String {
    format!("{{{member},{}", object.strip_prefix('{').expect("an object"))
}
