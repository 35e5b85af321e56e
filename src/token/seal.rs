//! Encryption of stored private keys: AES-256-GCM with a key that HKDF derives from JWT_SECRET. A copy of the database
//! is useless without that secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::config::HmacSecret;

const LABEL: &[u8] = b"gatebird signing keys v1";

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

/// Seals with the present secret, and opens what the present or the previous secret sealed.
pub struct Seal {
    present: RandomizedNonceKey,
    previous: Option<RandomizedNonceKey>,
}

impl Seal {
    /// Derives the keys from JWT_SECRET and JWT_SECRET_PREVIOUS.
    pub fn new(secret: &HmacSecret, previous: Option<&HmacSecret>) -> Seal {
        Seal { present: derive(secret), previous: previous.map(derive) }
    }

    /// Seals a private key. It can be opened with the same `name` only, so that a stored key cannot take the place of
    /// another.
    pub fn seal(&self, name: &str, private: &[u8]) -> Vec<u8> {
        let mut sealed = private.to_vec();
        let nonce = self
            .present
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .expect("a private key is short enough to seal");
        [nonce.as_ref().as_slice(), &sealed].concat()
    }

    /// Opens a sealed key. `None` if neither secret sealed it, if it was sealed with another `name`, or if it was
    /// changed.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Opened> {
        if let Some(private) = open(&self.present, name, sealed) {
            return Some(Opened { private, by_previous: false });
        }
        let private = open(self.previous.as_ref()?, name, sealed)?;
        Some(Opened { private, by_previous: true })
    }
}

/// An opened private key.
pub struct Opened {
    /// PKCS#8.
    pub private: Vec<u8>,
    /// Whether JWT_SECRET_PREVIOUS opened the key. Such a key must be sealed again before that secret is removed.
    pub by_previous: bool,
}

fn derive(secret: &HmacSecret) -> RandomizedNonceKey {
    let mut key = [0; 32];
    Salt::none(HKDF_SHA256)
        .extract(secret.as_bytes())
        .expand(&[LABEL], KeyLength)
        .and_then(|okm| okm.fill(&mut key))
        .expect("HKDF can produce 32 bytes");
    RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key has the required length")
}

fn open(key: &RandomizedNonceKey, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut private = sealed.to_vec();
    let length = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut private).ok()?.len();
    private.truncate(length);
    Some(private)
}

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    fn secret(text: &str) -> HmacSecret {
        HmacSecret::parse(text).expect("a valid secret")
    }

    #[test]
    fn seal__opens_with_the_same_name_and_secret_only() {
        let (old, new) = (secret("kJ8s0dP2mQ7xV4nB1zR6tY9wL3cF5gH0"), secret("Zp3wT8yN5bC1vX6kM9qL2jH7gF4dS0aR"));
        let seal = Seal::new(&old, None);
        let sealed = seal.seal("one", b"private");
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        assert_ne!(sealed, seal.seal("one", b"private"), "each sealing has a nonce of its own");
        assert_eq!(seal.open("one", &sealed).expect("opens").private, b"private");
        assert!(seal.open("two", &sealed).is_none());
        assert!(Seal::new(&new, None).open("one", &sealed).is_none());
        assert!(Seal::new(&new, Some(&old)).open("one", &sealed).expect("opens").by_previous);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seal.open("one", &changed).is_none(), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|end| seal.open("one", &sealed[..end]).is_none()));
    }
}
