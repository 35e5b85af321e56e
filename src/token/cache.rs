//! Cache of verified tokens: verifying a token again costs a digest instead of a signature and of reading the claims.
//!
//! This is safe because an entry is found by the SHA-256 of the whole token, so a forgery would have to collide with
//! it. An entry holds only what cannot change while its keyring is in use: the validity of the signature, and the
//! claims. The caller checks audience, owner, generation, revocation and `exp` on every use. An entry is not used past
//! `exp` or past the end of its key, and a changed keyring starts with an empty cache. Only valid tokens enter, so a
//! flood of forgeries evicts nothing.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::VerifiedToken;

/// Maximum number of entries, of one or two kilobytes each.
const MAX_ENTRIES: usize = 16 * 1024;

/// The SHA-256 of a token's text.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(token: &str) -> Fingerprint {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// Verified tokens by fingerprint.
pub(super) struct TokenCache(Cache<Fingerprint, Arc<VerifiedToken>>);

impl Default for TokenCache {
    fn default() -> TokenCache {
        TokenCache(Cache::new(MAX_ENTRIES))
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({})", self.0.len())
    }
}

impl TokenCache {
    pub(super) fn get(&self, token: &Fingerprint, now: i64) -> Option<Arc<VerifiedToken>> {
        let found = self.0.get(token)?;
        if found.has_expired(now) || now >= found.key_until {
            self.0.remove(token);
            return None;
        }
        Some(found)
    }

    pub(super) fn put(&self, token: Fingerprint, verified: &Arc<VerifiedToken>) {
        self.0.insert(token, Arc::clone(verified));
    }
}
