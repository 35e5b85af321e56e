//! Tokens that were verified before, so that the second use of one costs a digest instead of a signature.
//!
//! Why that is safe: an entry is found by the SHA-256 of the whole token, so only the very bytes that passed find it, and
//! a forgery would have to collide with them. It holds what cannot change as long as the keyring that it belongs to is in
//! use: the signature and the claims. What can change is looked at on every use, after this: audience, owner, generation,
//! revocation, and `exp` last. Past `exp`, and past the end of its key, an entry is not used, and a key that is retired takes
//! its entries along. Only tokens that passed get in, so a flood of forgeries displaces nothing.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::Authentic;

/// So many tokens are remembered, of a kilobyte or two each; beyond, those that are used least are forgotten.
const MOST: usize = 16 * 1024;

/// The SHA-256 of a token's text.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(token: &str) -> Fingerprint {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// Verified tokens by fingerprint.
pub(super) struct Verified(Cache<Fingerprint, Arc<Authentic>>);

impl Default for Verified {
    fn default() -> Verified {
        Verified(Cache::new(MOST))
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({})", self.0.len())
    }
}

impl Verified {
    pub(super) fn get(&self, token: &Fingerprint, now: i64) -> Option<Arc<Authentic>> {
        let found = self.0.get(token)?;
        if found.has_expired(now) || now >= found.key_until {
            self.0.remove(token);
            return None;
        }
        Some(found)
    }

    pub(super) fn put(&self, token: Fingerprint, verified: &Arc<Authentic>) {
        self.0.insert(token, Arc::clone(verified));
    }
}
