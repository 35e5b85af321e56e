//! Accounts and domains of the bystander and of attackers, created through the API.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::Result;
use crate::client::{member, once};
use crate::request;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A signed-up user.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) server: SocketAddr,
    /// The address from which the user calls.
    pub(crate) from: Ipv4Addr,
    pub(crate) id: i64,
    /// A user token.
    pub(crate) token: String,
}

/// A registered domain.
#[derive(Clone)]
pub(crate) struct Domain {
    pub(crate) id: String,
    /// Empty for a domain with a key.
    pub(crate) secret: String,
}

/// The body of a sign-up or a sign-in.
pub(crate) fn credentials(name: &str, password: &str) -> Value {
    json!({ "username": name, "password": password })
}

/// The body of a registration.
pub(crate) fn registration(host: &str, plan: &str, keys: Option<Value>) -> Value {
    match keys {
        Some(keys) => json!({ "host": host, "type": plan, "jwks": { "keys": keys } }),
        None => json!({ "host": host, "type": plan }),
    }
}

impl Account {
    pub(crate) fn sign_up(server: SocketAddr, from: Ipv4Addr, name: &str) -> Result<Self> {
        let request = request::post("/v1/signup", &credentials(name, PASSWORD), None);
        let answer = once(server, from, &request, 201)?;
        let id = answer["payload"]["id"].as_i64().ok_or("a user without a number")?;
        Ok(Self { server, from, id, token: member(&answer, "token")? })
    }

    /// Registers a domain with a secret, or with public keys.
    pub(crate) fn register(&self, host: &str, plan: &str, keys: Option<Value>) -> Result<Domain> {
        let with_secret = keys.is_none();
        let request = request::post("/v1/domains", &registration(host, plan, keys), Some(&self.token));
        let answer = once(self.server, self.from, &request, 201)?;
        let secret = if with_secret { member(&answer, "clientSecret")? } else { String::new() };
        Ok(Domain { id: member(&answer, "id")?, secret })
    }
}

impl Domain {
    /// The request for an access token in its JSON form.
    pub(crate) fn token_request(&self) -> Vec<u8> {
        request::post("/token", &json!({ "clientSecret": self.secret }), None)
    }

    /// An access token.
    pub(crate) fn token(&self, server: SocketAddr, from: Ipv4Addr) -> Result<String> {
        member(&once(server, from, &self.token_request(), 200)?, "token")
    }
}

/// A key with which a domain authenticates (`private_key_jwt`).
pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self(Ed25519KeyPair::generate()?))
    }

    /// The public keys of a registration.
    pub(crate) fn public(&self) -> Value {
        json!([{ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.0.public_key()) }])
    }

    /// A new assertion of that domain for a server with the default issuer.
    pub(crate) fn assertion(&self, domain: &str, server: SocketAddr, jti: &str) -> String {
        let message = unsigned("EdDSA", domain, server, jti);
        let signature = self.0.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and payload of an assertion.
pub(crate) fn unsigned(algorithm: &str, domain: &str, server: SocketAddr, jti: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the server under attack has the system's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let audience = format!("http://localhost:{}", server.port());
    let claims = json!({ "iss": domain, "sub": domain, "aud": audience, "iat": now, "exp": now + 3600, "jti": jti });
    let header = json!({ "alg": algorithm });
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A form with an assertion instead of HTTP Basic.
pub(crate) fn asserted(path: &str, assertion: &str, rest: &str) -> Vec<u8> {
    let body = format!(
        "client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer\
         &client_assertion={assertion}&{rest}"
    );
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A random number for names, identifiers and forged bytes.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    u64::from_le_bytes(bytes)
}
