//! Passwords: what may be one, and how it is hashed and checked without stopping the server.
//!
//! Why not bcrypt alone: it reads 72 bytes at most (24 Hangul syllables) and takes `a` and `a\0a` for the same.
//! So a password is normalised (NFC), put through HMAC-SHA-256 under a fixed label, and the base64 of that is what
//! bcrypt sees.

use std::fmt;
use std::time::Duration;

use actix_web::web;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use icu_normalizer::ComposingNormalizerBorrowed;

use crate::error::{Error, Result};
use crate::locale::Message;
use crate::shares::{Holder, Share};

/// Tells a hash of ours from a plain bcrypt one, which another system made of the bare password.
const MARK: &str = "gb1";
const LABEL: &[u8] = b"gatebird password v1";
/// How many characters of a new password are judged.
const JUDGED: usize = 24;
/// How long a request waits for its turn to hash.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A password as somebody typed it; `Debug` does not show it.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// A password to be checked. Nothing longer than a password can be is worth a look.
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

/// A password strong enough to be somebody's from now on.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// 8 to 256 characters, the first 24 of them hard to guess (zxcvbn score 3 of 4), also for somebody who knows the
    /// words in `context`. Costs milliseconds, so servers leave it to [`Hasher::judge`].
    pub fn parse(text: &str, context: &[&str]) -> std::result::Result<NewPassword, Message> {
        let password = Password::typed(text).ok_or(Message::PasswordLength)?;
        if text.chars().count() < 8 {
            return Err(Message::PasswordLength);
        }
        let context: Vec<&str> = context.iter().copied().chain(["gatebird"]).collect();
        // A longer password is no easier to guess than its beginning, but judging all of it can take seconds.
        let beginning = text.char_indices().nth(JUDGED).map_or(text, |(end, _)| &text[..end]);
        if zxcvbn::zxcvbn(beginning, &context).score() < zxcvbn::Score::Three {
            return Err(Message::PasswordWeak);
        }
        Ok(NewPassword(password))
    }
}

/// A bcrypt hash that another system made of the bare password. [`Hasher::check`] verifies it; its first match replaces it.
#[derive(Clone, Debug)]
pub struct PlainHash(String);

impl PlainHash {
    /// Reads `$2a$`, `$2b$` or `$2y$` with a cost of 4 to 16: a larger one could keep a thread busy for minutes.
    pub fn parse(text: &str) -> Option<PlainHash> {
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version));
        // What is no hash here would be a failure of ours at each sign-in.
        let parts: bcrypt::HashParts = text.parse().ok()?;
        (known && (4..=16).contains(&parts.get_cost())).then(|| PlainHash(text.to_owned()))
    }

    /// As it is stored.
    pub fn into_stored(self) -> String {
        self.0
    }
}

/// What is stored for an account that nobody can sign in to until a password is set.
pub fn unusable(cost: u32) -> String {
    matches_nothing(cost)
}

/// What [`Hasher::check`] found.
#[derive(Debug)]
pub struct Checked {
    /// The password is the one that was hashed.
    pub matches: bool,
    /// Set when it matches but its hash is of another cost or of another system: store this one.
    pub rehashed: Option<String>,
}

/// Hashes and checks passwords, as many at once as the machine has cores and at least two, of which one network has at
/// most half: a flood of sign-ins leaves the rest of the server running, and a place for others to sign in. Half as many
/// again are reserved for owners, so that a flood from many networks does not keep them waiting.
#[derive(Debug)]
pub struct Hasher {
    cost: u32,
    turns: Share,
    /// For holders that are certainly, or most likely, the owners of their accounts.
    owners_turns: Share,
}

impl Hasher {
    /// A hasher of that bcrypt cost for a machine of so many cores.
    pub fn new(cost: u32, cores: usize) -> Hasher {
        Hasher { cost, turns: Share::new(cores.max(2)), owners_turns: Share::new((cores / 2).max(1)) }
    }

    /// Judges a new password as [`NewPassword::parse`] does, away from the request threads.
    ///
    /// # Errors
    /// `Busy` when the holder's share of hashing is used up. Inside, what is wrong with the password.
    pub async fn judge(
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
    /// `Busy` when the holder's share of hashing is used up.
    pub async fn hash(&self, holder: Holder, password: NewPassword) -> Result<String> {
        let cost = self.cost;
        self.run(holder, move || hash_now(&password, cost)).await?
    }

    /// Checks a typed password against the stored hash; `None` is that of no user. `dearest` is the cost of the dearest hash
    /// in the table: a refusal takes as long as that one, whatever is stored, so that its time tells nothing.
    ///
    /// # Errors
    /// `Busy` when the holder's share of hashing is used up.
    pub async fn check(
        &self,
        holder: Holder,
        password: Password,
        stored: Option<String>,
        dearest: u32,
    ) -> Result<Checked> {
        let cost = self.cost;
        self.run(holder, move || check_evenly(&password, stored, cost, dearest)).await?
    }

    async fn run<T: Send + 'static>(&self, holder: Holder, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turns = if holder.is_owner() { &self.owners_turns } else { &self.turns };
        let permit = turns.take(holder, TURN_TIMEOUT).await.ok_or(Error::Busy)?;
        web::block(move || {
            // The permit moves in: a caller that has gone away does not make room while its work runs.
            let _permit = permit;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

/// Hashes on this thread; for the command line, where nothing else waits.
pub fn hash_now(password: &NewPassword, cost: u32) -> Result<String> {
    hash(&password.0, cost)
}

fn hash(password: &Password, cost: u32) -> Result<String> {
    let hash = bcrypt::non_truncating_hash(password.prehash(), cost).map_err(Error::internal)?;
    Ok(format!("{MARK}{hash}"))
}

/// See [`Hasher::check`].
fn check_evenly(password: &Password, stored: Option<String>, cost: u32, dearest: u32) -> Result<Checked> {
    let exists = stored.is_some();
    let stored = stored.unwrap_or_else(|| matches_nothing(cost));
    let matches = check(password, &stored)? && exists;
    if !matches {
        // Each cost doubles the work. So the stored hash and one of each cost from its own on make up one of the dearest.
        for cost in cost_of(&stored)?..cost.max(dearest) {
            check(password, &matches_nothing(cost))?;
        }
    }
    let rehashed = match matches && !is_current(&stored, cost) {
        true => Some(hash(password, cost)?),
        false => None,
    };
    Ok(Checked { matches, rehashed })
}

fn check(password: &Password, stored: &str) -> Result<bool> {
    let verified = match stored.strip_prefix(MARK) {
        Some(ours) => bcrypt::non_truncating_verify(password.prehash(), ours),
        None => imported(password, stored),
    };
    verified.map_err(Error::internal)
}

/// A plain bcrypt hash of another system, which had cut at 72 bytes and could not know a NUL.
fn imported(password: &Password, stored: &str) -> bcrypt::BcryptResult<bool> {
    let bytes = password.0.as_bytes();
    #[expect(clippy::disallowed_methods, reason = "cut as the other system did")]
    let matches = bcrypt::verify(bytes, stored)?;
    Ok(matches && !bytes.contains(&0))
}

fn cost_of(stored: &str) -> Result<u32> {
    let parts: bcrypt::HashParts = stored.strip_prefix(MARK).unwrap_or(stored).parse().map_err(Error::internal)?;
    Ok(parts.get_cost())
}

fn is_current(stored: &str, cost: u32) -> bool {
    stored.starts_with(&format!("{MARK}$2b${cost:02}$"))
}

/// A well-formed hash of that cost whose password nobody knows.
fn matches_nothing(cost: u32) -> String {
    format!("{MARK}$2b${cost:02}$GatebirdHasNoSuchUseruQOQBY1xVXq2zS1vO3fGJ6dJm6hN0xwS")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: u32 = 4;

    fn typed(text: &str) -> Password {
        Password::typed(text).expect("short enough")
    }

    #[test]
    fn the_whole_password_counts_and_nul_is_a_character() {
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
    fn composed_and_decomposed_spellings_are_one_password() {
        let composed = "caf\u{e9} 한국";
        let decomposed = "cafe\u{301} \u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}";
        for (set, other) in [(composed, decomposed), (decomposed, composed)] {
            let stored = hash(&typed(set), COST).expect("hashes");
            assert!(check(&typed(other), &stored).expect("checks"));
        }
    }

    #[test]
    fn an_imported_hash_is_accepted_and_is_to_be_rehashed() {
        let stored = bcrypt::non_truncating_hash("original password", COST).expect("hashes");
        assert!(check(&typed("original password"), &stored).expect("checks"));
        assert!(!check(&typed("original password\0"), &stored).expect("checks"));
        assert!(!is_current(&stored, COST));
        assert!(is_current(&hash(&typed("x"), COST).expect("hashes"), COST));
    }

    #[test]
    fn what_is_read_as_a_hash_of_another_system_can_be_checked() {
        let good = bcrypt::non_truncating_hash("original password", COST).expect("hashes");
        for version in ["$2a$", "$2b$", "$2y$"] {
            let stored = PlainHash::parse(&good.replace("$2b$", version)).expect("a hash").into_stored();
            assert!(check(&typed("original password"), &stored).expect("checks"), "{stored}");
        }
        // The last one has bits set in its salt that no salt has.
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
    fn the_hash_that_nothing_matches_is_well_formed() {
        assert!(!check(&typed(""), &matches_nothing(COST)).expect("checks"));
        assert_eq!(matches_nothing(COST).len(), hash(&typed("x"), COST).expect("hashes").len());
    }

    /// Processor time of this thread, which other work on the machine does not lengthen.
    #[cfg(target_os = "linux")]
    fn processor_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a time")
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_refusal_takes_as_long_whatever_is_stored() {
        const DEAREST: u32 = 6;
        let own = |cost| hash(&typed("original password"), cost).expect("hashes");
        let imported = |cost| bcrypt::non_truncating_hash("original password", cost).expect("hashes");
        let costs = 4..=DEAREST;
        let stored: Vec<Option<String>> =
            costs.flat_map(|cost| [own(cost), imported(cost)]).map(Some).chain([None]).collect();
        for cost in [4, DEAREST] {
            for wrong in ["wrong password", "original password\0"] {
                let mut quickest = vec![Duration::MAX; stored.len()];
                for _ in 0..15 {
                    for (stored, quickest) in stored.iter().zip(&mut quickest) {
                        let began = processor_time();
                        let checked = check_evenly(&typed(wrong), stored.clone(), cost, DEAREST).expect("checks");
                        *quickest = (processor_time() - began).min(*quickest);
                        assert!(!checked.matches);
                    }
                }
                let (least, most) = (quickest.iter().min().expect("some"), quickest.iter().max().expect("some"));
                assert!(most.as_secs_f64() <= least.as_secs_f64() * 1.05, "cost {cost}: {quickest:?}");
            }
        }
    }

    #[test]
    fn weak_passwords_are_refused() {
        for text in ["", "1234567", "password", "12345678", "gatebird", "alice2026", "        ", "qwertyuiop"] {
            assert!(NewPassword::parse(text, &["alice"]).is_err(), "{text:?}");
        }
        for text in ["correct horse battery staple", "올바른 말 배터리 스테이플", "xK9#mQ2$vL7!"] {
            assert!(NewPassword::parse(text, &["alice"]).is_ok(), "{text:?}");
        }
        assert!(NewPassword::parse(&"a1b2".repeat(65), &[]).is_err());
    }
}
