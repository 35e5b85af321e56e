//! Passwords: the rules for new ones, and hashing and checking without blocking the server.
//!
//! bcrypt reads 72 bytes at most (24 Hangul syllables), and cannot tell `a` from `a\0a`. Therefore a password is
//! normalised (NFC) and put through HMAC-SHA-256 with a fixed label, and bcrypt hashes the result in base64.

use std::fmt;
use std::time::Duration;

use actix_web::web;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use icu_normalizer::ComposingNormalizerBorrowed;

use crate::error::{Error, Result};
use crate::locale::Message;
use crate::shares::{Holder, ReservedShare, Share};

/// Prefix of stored hashes that tells them from plain bcrypt hashes, which other systems made of the bare password.
const PREFIX: &str = "gb1";
const LABEL: &[u8] = b"gatebird password v1";
/// How many characters of a new password are rated.
const RATED_LENGTH: usize = 24;
/// How long a request waits for a permit to hash.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// A password as typed. `Debug` does not show it.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// A password to check; `None` if it is longer than any password may be.
    pub fn typed(text: &str) -> Option<Password> {
        (text.chars().count() <= 256).then(|| Password(text.to_owned()))
    }

    fn prehash(&self) -> String {
        let normal = ComposingNormalizerBorrowed::new_nfc().normalize(&self.0);
        let key = hmac::Key::new(hmac::HMAC_SHA256, LABEL);
        STANDARD_NO_PAD.encode(hmac::sign(&key, normal.as_bytes()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A password that is strong enough to be set.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// Accepts 8 to 256 characters whose first 24 are hard to guess (zxcvbn score 3 of 4), even for an attacker who
    /// knows the words in `context`. This takes milliseconds; servers call [`Hasher::validate`] instead.
    pub fn parse(text: &str, context: &[&str]) -> std::result::Result<NewPassword, Message> {
        let password = Password::typed(text).ok_or(Message::PasswordLength)?;
        if text.chars().count() < 8 {
            return Err(Message::PasswordLength);
        }
        let context: Vec<&str> = context.iter().copied().chain(["gatebird"]).collect();
        // A password is at least as hard to guess as its beginning. Rating all of a long one can take seconds.
        let beginning = text.char_indices().nth(RATED_LENGTH).map_or(text, |(end, _)| &text[..end]);
        if zxcvbn::zxcvbn(beginning, &context).score() < zxcvbn::Score::Three {
            return Err(Message::PasswordWeak);
        }
        Ok(NewPassword(password))
    }
}

/// A bcrypt hash that another system made of the bare password. [`Hasher::check`] verifies it, and the first match
/// replaces it.
#[derive(Clone, Debug)]
pub struct PlainHash(String);

impl PlainHash {
    /// Parses a `$2a$`, `$2b$` or `$2y$` hash with a cost of 4 to 16. A larger cost could keep a thread busy for
    /// minutes.
    pub fn parse(text: &str) -> Option<PlainHash> {
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version));
        // A malformed hash would cause an internal error at each sign-in.
        let parts: bcrypt::HashParts = text.parse().ok()?;
        (known && (4..=16).contains(&parts.get_cost())).then(|| PlainHash(text.to_owned()))
    }

    /// The hash as it is stored.
    pub fn into_stored(self) -> String {
        self.0
    }
}

/// The stored hash of an account that has no password yet, which no password matches.
pub fn unusable(cost: u32) -> String {
    matches_nothing(cost)
}

/// The result of [`Hasher::check`].
#[derive(Debug)]
pub struct Checked {
    /// The password is right.
    pub matches: bool,
    /// A new hash to store, if the password is right and its stored hash has another cost or is of another system.
    pub rehashed: Option<String>,
}

/// Hashes and checks passwords. As many run at once as the machine has cores, and at least two; one network gets at
/// most half of these permits. So a flood of sign-ins leaves room for other work and other networks. Half as many
/// permits again are reserved for owners, so that a flood from many networks does not block them.
#[derive(Debug)]
pub struct Hasher {
    cost: u32,
    permits: ReservedShare,
}

impl Hasher {
    /// A hasher with this bcrypt cost, for a machine with `cores` cores.
    pub fn new(cost: u32, cores: usize) -> Hasher {
        Hasher { cost, permits: ReservedShare::new(Share::new(cores.max(2)), (cores / 2).max(1)) }
    }

    /// Runs [`NewPassword::parse`] on a blocking thread.
    ///
    /// # Errors
    /// `Busy` when the holder's share of hashing is exhausted. The inner error says why the password is refused.
    pub async fn validate(
        &self,
        holder: Holder,
        text: String,
        context: [String; 2],
    ) -> Result<std::result::Result<NewPassword, Message>> {
        self.run(holder, move || NewPassword::parse(&text, &context.each_ref().map(String::as_str))).await
    }

    /// Hashes a new password for storage.
    ///
    /// # Errors
    /// `Busy` when the holder's share of hashing is exhausted.
    pub async fn hash(&self, holder: Holder, password: NewPassword) -> Result<String> {
        let cost = self.cost;
        self.run(holder, move || hash_now(&password, cost)).await?
    }

    /// Checks a password against the stored hash; `None` if the user does not exist. `max_cost` is the largest cost of
    /// all stored hashes. Every refusal takes as long as a check of that cost, so that its time does not reveal whether
    /// the user exists.
    ///
    /// # Errors
    /// `Busy` when the holder's share of hashing is exhausted.
    pub async fn check(
        &self,
        holder: Holder,
        password: Password,
        stored: Option<String>,
        max_cost: u32,
    ) -> Result<Checked> {
        let cost = self.cost;
        self.run(holder, move || check_evenly(&password, stored, cost, max_cost)).await?
    }

    async fn run<T: Send + 'static>(&self, holder: Holder, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = self.permits.take(holder, PERMIT_TIMEOUT).await.ok_or(Error::Busy)?;
        web::block(move || {
            // The work keeps the permit even if its request ends earlier.
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

/// Hashes a new password on this thread, for the command line.
pub fn hash_now(password: &NewPassword, cost: u32) -> Result<String> {
    hash(&password.0, cost)
}

fn hash(password: &Password, cost: u32) -> Result<String> {
    let hash = bcrypt::non_truncating_hash(password.prehash(), cost).map_err(Error::internal)?;
    Ok(format!("{PREFIX}{hash}"))
}

/// See [`Hasher::check`].
fn check_evenly(password: &Password, stored: Option<String>, cost: u32, max_cost: u32) -> Result<Checked> {
    let exists = stored.is_some();
    let stored = stored.unwrap_or_else(|| matches_nothing(cost));
    let matches = check(password, &stored)? && exists;
    if !matches {
        // Each cost doubles the work. So checks of all costs from the stored hash's own on add up to one of `max_cost`.
        for cost in cost_of(&stored)?..cost.max(max_cost) {
            check(password, &matches_nothing(cost))?;
        }
    }
    let rehashed = if matches && !is_current(&stored, cost) { Some(hash(password, cost)?) } else { None };
    Ok(Checked { matches, rehashed })
}

fn check(password: &Password, stored: &str) -> Result<bool> {
    let verified = match stored.strip_prefix(PREFIX) {
        Some(ours) => bcrypt::non_truncating_verify(password.prehash(), ours),
        None => imported(password, stored),
    };
    verified.map_err(Error::internal)
}

/// Checks a plain bcrypt hash of another system, which cut the password at 72 bytes and could not contain a NUL.
fn imported(password: &Password, stored: &str) -> bcrypt::BcryptResult<bool> {
    let bytes = password.0.as_bytes();
    #[expect(clippy::disallowed_methods, reason = "cuts at 72 bytes as the other system did")]
    let matches = bcrypt::verify(bytes, stored)?;
    Ok(matches && !bytes.contains(&0))
}

fn cost_of(stored: &str) -> Result<u32> {
    let parts: bcrypt::HashParts = stored.strip_prefix(PREFIX).unwrap_or(stored).parse().map_err(Error::internal)?;
    Ok(parts.get_cost())
}

fn is_current(stored: &str, cost: u32) -> bool {
    stored.starts_with(&format!("{PREFIX}$2b${cost:02}$"))
}

/// A well-formed hash of this cost that no known password matches.
fn matches_nothing(cost: u32) -> String {
    format!("{PREFIX}$2b${cost:02}$GatebirdHasNoSuchUseruQOQBY1xVXq2zS1vO3fGJ6dJm6hN0xwS")
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    const COST: u32 = 4;

    fn typed(text: &str) -> Password {
        Password::typed(text).expect("short enough")
    }

    #[test]
    fn hash__the_whole_password_counts_and_nul_is_a_character() {
        let long = "가".repeat(100);
        for (set, other) in [
            ("a".to_owned(), "a\0a".to_owned()),
            (long.clone(), format!("{}나", "가".repeat(99))),
            (long.clone(), "가".repeat(24)),
        ] {
            let stored = hash(&typed(&set), COST).expect("hashes");
            assert!(check(&typed(&set), &stored).expect("checks"));
            assert!(!check(&typed(&other), &stored).expect("checks"), "{other:?}");
        }
    }

    #[test]
    fn hash__composed_and_decomposed_spellings_are_equal() {
        let composed = "caf\u{e9} 한국";
        let decomposed = "cafe\u{301} \u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}";
        for (set, other) in [(composed, decomposed), (decomposed, composed)] {
            let stored = hash(&typed(set), COST).expect("hashes");
            assert!(check(&typed(other), &stored).expect("checks"));
        }
    }

    #[test]
    fn imported_hash__is_accepted_and_not_current() {
        let stored = bcrypt::non_truncating_hash("original password", COST).expect("hashes");
        assert!(check(&typed("original password"), &stored).expect("checks"));
        assert!(!check(&typed("original password\0"), &stored).expect("checks"));
        assert!(!is_current(&stored, COST));
        assert!(is_current(&hash(&typed("x"), COST).expect("hashes"), COST));
    }

    #[test]
    fn imported_hash__parsed_ones_can_be_checked() {
        let good = bcrypt::non_truncating_hash("original password", COST).expect("hashes");
        for version in ["$2a$", "$2b$", "$2y$"] {
            let stored = PlainHash::parse(&good.replace("$2b$", version)).expect("a hash").into_stored();
            assert!(check(&typed("original password"), &stored).expect("checks"), "{stored}");
        }
        // The last one has padding bits set in its salt.
        let odd = format!("$2a$04${}", "z".repeat(53));
        let bad = ["", "original password", "$2b$", "$1$abc$def", &good[..59], &format!("{good}0"), &odd];
        let bad_parts = [("$2b$", "$2x$"), ("$04$", "$17$"), ("$04$", "$03$"), ("$04$", "$x4$"), ("$04$", "$4$")];
        let changed = bad_parts.map(|(good_part, bad_part)| good.replace(good_part, bad_part));
        for text in bad.into_iter().chain(changed.iter().map(String::as_str)) {
            assert!(PlainHash::parse(text).is_none(), "{text:?}");
        }
        assert!(PlainHash::parse(&good.replace(&good[40..41], "-")).is_none());
    }

    #[test]
    fn unusable_hash__is_well_formed() {
        assert!(!check(&typed(""), &matches_nothing(COST)).expect("checks"));
        assert_eq!(matches_nothing(COST).len(), hash(&typed("x"), COST).expect("hashes").len());
    }

    /// The processor time of this thread, which does not depend on other work of the machine.
    #[cfg(target_os = "linux")]
    fn processor_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a time")
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn refusal__takes_as_long_for_every_stored_hash() {
        const MAX_COST: u32 = 6;
        let own = |cost| hash(&typed("original password"), cost).expect("hashes");
        let imported = |cost| bcrypt::non_truncating_hash("original password", cost).expect("hashes");
        let costs = 4..=MAX_COST;
        let stored: Vec<Option<String>> =
            costs.flat_map(|cost| [own(cost), imported(cost)]).map(Some).chain([None]).collect();
        for cost in [4, MAX_COST] {
            for wrong in ["wrong password", "original password\0"] {
                let mut quickest = vec![Duration::MAX; stored.len()];
                for _ in 0..15 {
                    for (stored, quickest) in stored.iter().zip(&mut quickest) {
                        let began = processor_time();
                        let checked = check_evenly(&typed(wrong), stored.clone(), cost, MAX_COST).expect("checks");
                        *quickest = (processor_time() - began).min(*quickest);
                        assert!(!checked.matches);
                    }
                }
                let (min, max) = (quickest.iter().min().expect("some"), quickest.iter().max().expect("some"));
                // Without the check of the lowest cost, a refusal takes a quarter less.
                assert!(max.as_secs_f64() <= min.as_secs_f64() * 1.15, "cost {cost}: {quickest:?}");
            }
        }
    }

    #[test]
    fn new_password__weak_ones_are_refused() {
        for text in ["", "1234567", "password", "12345678", "gatebird", "alice2026", "        ", "qwertyuiop"] {
            assert!(NewPassword::parse(text, &["alice"]).is_err(), "{text:?}");
        }
        for text in ["correct horse battery staple", "올바른 말 배터리 스테이플", "xK9#mQ2$vL7!"] {
            assert!(NewPassword::parse(text, &["alice"]).is_ok(), "{text:?}");
        }
        assert!(NewPassword::parse(&"a1b2".repeat(65), &[]).is_err());
    }
}
