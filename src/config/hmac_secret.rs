//! The HMAC key of HS256. A guessable key is refused.

use std::collections::HashSet;
use std::fmt;

use super::value::trimmed;

/// A key for HS256 of at least 32 bytes. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacSecret(String);

impl HmacSecret {
    /// Removes surrounding white space, and checks that the key is not guessable.
    ///
    /// # Errors
    /// A sentence without a subject, to follow the name of the setting.
    pub fn parse(text: &str) -> Result<HmacSecret, String> {
        let text = trimmed(text)?;
        if text.contains(char::is_control) {
            return Err("must be one line".to_owned());
        }
        if text.len() < 32 {
            return Err(format!(
                "has {} bytes and needs at least 32; generate one with: openssl rand -base64 48",
                text.len()
            ));
        }
        let lower = text.to_ascii_lowercase();
        let distinct = text.bytes().collect::<HashSet<_>>().len();
        if distinct < 8 || WELL_KNOWN.iter().any(|known| lower.contains(known)) {
            return Err("is a well-known or repetitive value; generate one with: openssl rand -base64 48".into());
        }
        Ok(HmacSecret(text.to_owned()))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for HmacSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(set, {} bytes)", self.0.len())
    }
}

/// Parts of example secrets in tutorials and in `.env.example`.
const WELL_KNOWN: &[&str] = &[
    "replace-me",
    "changeme",
    "change-me",
    "change_me",
    "change this",
    "change-this",
    "change_this",
    "your-256-bit-secret",
    "your-secret",
    "your_secret",
    "yoursecret",
    "your-super-secret",
    "a-string-secret-at-least-256-bits",
    "supersecret",
    "super-secret",
    "super_secret",
    "secretsecret",
    "secretkey",
    "secret-key",
    "secret_key",
    "jwtsecret",
    "jwt-secret",
    "jwt_secret",
    "nodebirdsecret",
    "my-secret",
    "mysecret",
    "example",
    "passwordpassword",
    "0123456789abcdef0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz",
    "1234567890123456789012345678901",
];
