//! Client secrets: generation, recognition and digests. A secret and its digest are two types, and only the digest can
//! be stored.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Binary;

use crate::column::stored;
use crate::id::{BASE62, random_base62};

const PREFIX: &str = "gbs_";
const RANDOM: usize = 32;
const CHECKSUM: usize = 6;
const BODY: usize = PREFIX.len() + RANDOM;

/// Lengths of the parts of a UUID in text form.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// A client secret: `gbs_`, 32 random base62 characters (190 bits) and a checksum of 6 characters. It is shown once and
/// never stored; `Debug` does not show it.
///
/// A domain that was imported from NodeBird keeps its secret, a version 4 UUID with 122 random bits. Letter case
/// counts.
pub struct ClientSecret(String);

impl ClientSecret {
    /// Generates a secret.
    pub fn random() -> ClientSecret {
        let mut random = [0; RANDOM];
        random_base62(&mut random);
        let mut secret = String::from(PREFIX);
        secret.extend(random.map(char::from));
        let checksum = checksum(&secret);
        secret.extend(checksum.map(char::from));
        ClientSecret(secret)
    }

    /// Parses a secret of this server by prefix, alphabet and checksum, so that typing errors and guesses are refused
    /// without a lookup. Also accepts the form of a UUID, for secrets from NodeBird.
    pub fn parse(text: &str) -> Option<ClientSecret> {
        (is_ours(text) || is_uuid(text)).then(|| ClientSecret(text.to_owned()))
    }

    /// Returns the digest, under which the secret is stored and found.
    pub fn digest(&self) -> SecretDigest {
        let digest = digest(&SHA256, self.0.as_bytes());
        SecretDigest(digest.as_ref().try_into().expect("SHA-256 is 32 bytes"))
    }

    /// Returns the last four characters, by which an owner can tell secrets apart. They belong to the checksum and
    /// reveal nothing useful about the random part. The hint of a UUID leaves 106 bits unknown.
    pub fn hint(&self) -> &str {
        &self.0[self.0.len() - 4..]
    }

    /// Returns the secret itself, for the one response that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

fn is_ours(text: &str) -> bool {
    let Some((body, given)) = text.split_at_checked(BODY) else {
        return false;
    };
    let alphanumeric = |random: &str| random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    body.strip_prefix(PREFIX).is_some_and(alphanumeric) && given.as_bytes() == checksum(body)
}

/// Accepts every version, because NodeBird's secrets need not be of version 4.
fn is_uuid(text: &str) -> bool {
    let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq(UUID) && text.split('-').all(hexadecimal)
}

/// The first 32 bits of the body's SHA-256, in base62.
fn checksum(body: &str) -> [u8; CHECKSUM] {
    let digest = digest(&SHA256, body.as_bytes());
    let head = digest.as_ref()[..4].try_into().expect("four bytes");
    let mut rest = u32::from_be_bytes(head);
    let mut checksum = [0; CHECKSUM];
    for character in checksum.iter_mut().rev() {
        *character = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    checksum
}

/// The SHA-256 of a client secret, by which its domain is found.
///
/// A plain digest is sufficient because a secret cannot be guessed: it has 190 random bits, or 122 if it is a version 4
/// UUID. At 10^12 guesses per second, 122 bits take 10^17 years.
#[derive(Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct SecretDigest([u8; 32]);

/// Compares in constant time, so that the duration of a lookup reveals nothing about a stored digest.
impl PartialEq for SecretDigest {
    fn eq(&self, other: &SecretDigest) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}
impl Eq for SecretDigest {}

impl Hash for SecretDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

stored!(SecretDigest: Binary, |digest| &digest.0, |bytes| {
    Ok(SecretDigest(bytes.try_into().map_err(|_| "a digest has 32 bytes")?))
});

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID_SHAPE: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

    #[test]
    fn secret__random_one_can_be_parsed() {
        let secret = ClientSecret::random();
        assert_eq!(secret.reveal().len(), 42);
        let parsed = ClientSecret::parse(secret.reveal()).expect("well-formed");
        assert_eq!(parsed.digest(), secret.digest());
        assert_ne!(ClientSecret::random().digest(), secret.digest());
    }

    #[test]
    fn digest__equality_covers_every_bit() {
        let digest = ClientSecret::random().digest();
        for bit in 0..256 {
            let mut other = digest;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(other, digest, "bit {bit}");
        }
    }

    #[test]
    fn secret__debug_shows_nothing() {
        let secret = ClientSecret::random();
        assert_eq!(format!("{secret:?}{:?}", secret.digest()), "ClientSecret(..)SecretDigest(..)");
    }

    proptest! {
        #[test]
        fn secret__changed_character_is_refused(position in 0..42_usize, replacement in "[ -~]") {
            let secret = ClientSecret::random().reveal().to_owned();
            let mut changed = secret.clone();
            changed.replace_range(position..=position, &replacement);
            prop_assert_eq!(ClientSecret::parse(&changed).is_some(), changed == secret);
        }

        #[test]
        fn uuid_secret__letter_case_counts(text in UUID_SHAPE) {
            let secret = ClientSecret::parse(&text).expect("a UUID");
            prop_assert_eq!(secret.reveal(), &text);
            prop_assert_eq!(secret.hint(), &text[32..]);
            let swap_case = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            let other_case: String = text.chars().map(swap_case).collect();
            let other = ClientSecret::parse(&other_case).expect("a UUID");
            prop_assert_eq!(other.digest() == secret.digest(), other_case == text);
        }

        #[test]
        fn uuid_secret__other_shapes_are_refused(text in UUID_SHAPE, position in 0..36_usize, replacement in "[g-zG-Z _.:{}-]{0,2}") {
            let mut changed = text.clone();
            changed.replace_range(position..=position, &replacement);
            prop_assert_eq!(ClientSecret::parse(&changed).is_some(), changed == text);
        }

        #[test]
        fn secret__other_text_is_refused(text in ".*") {
            prop_assert!(ClientSecret::parse(&text).is_none());
        }
    }
}
