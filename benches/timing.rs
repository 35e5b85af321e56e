//! Does the time of a refusal reveal how much of a guess was right? Measures, like dudect, two classes of guesses in
//! random order, wrong in the first or in the last byte, and compares them by Welch's t-test.
//!
//! Run `cargo bench --bench timing` on an idle machine. It exits with 1 if in each of three runs |t| is at least 4.5
//! and the medians differ by more than a microsecond. As a control it measures a comparison that stops at the first
//! difference, and exits with 1 if that is not detected.
//!
//! It also measures the time of refusing a wrong password for each kind of stored hash and for an unknown user. All
//! medians must be within 5 % of each other.
//!
//! Signatures by private keys are not measured: they are verified with public values.

use std::fmt::Write;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::Binary;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use gatebird::Config;
use gatebird::config::HmacSecret;
use gatebird::db::Db;
use gatebird::directory::Directory;
use gatebird::id::Stamp;
use gatebird::password::{Hasher, NewPassword, Password, hash_now};
use gatebird::secret::SecretDigest;
use gatebird::shares::{Holder, Network};
use gatebird::token::keyring::Keyring;
use gatebird::token::{self, Claims, Kind};
use serde_json::json;

/// Measurements of each class in a run.
const SAMPLES: usize = 20_000;
/// The |t| from which a difference is significant (dudect).
const T: f64 = 4.5;
/// The smallest difference that is visible over a network.
const NANOSECONDS: f64 = 1000.0;
const RUNS: usize = 3;
/// The time of the measurement in Unix seconds.
const NOW: i64 = 1_800_000_000;
const SECRET: &str = "kJ8s0dP2mQ7xV4nB1zR6tY9wL3cF5gH0uE2a";

/// The position of the wrong byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    First,
    Last,
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    u64::from_le_bytes(bytes)
}

/// `bytes` with one bit changed, of the byte at `from` or of the last.
fn wrong(bytes: &[u8], place: Wrong, from: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let index = if place == Wrong::First { from } else { bytes.len() - 1 };
    changed[index] ^= 1 << (random() % 8);
    changed
}

/// The comparison of two classes.
struct Compared {
    /// The t of the cropping that separates them most.
    t: f64,
    /// The difference of the medians, in nanoseconds per operation.
    difference: f64,
}

impl Compared {
    fn is_apart(&self) -> bool {
        self.t.abs() >= T && self.difference.abs() > NANOSECONDS
    }
}

/// Times `guess`, which does `operations` operations, for both classes in random order.
fn measure(operations: f64, mut guess: impl FnMut(Wrong) -> u64) -> Compared {
    let mut times: [Vec<f64>; 2] = [Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES)];
    for _ in 0..SAMPLES / 10 {
        guess(Wrong::First);
        guess(Wrong::Last);
    }
    while times.iter().any(|times| times.len() < SAMPLES) {
        let place = if random().is_multiple_of(2) { Wrong::First } else { Wrong::Last };
        let nanoseconds = guess(place);
        let class = &mut times[usize::from(place == Wrong::Last)];
        if class.len() < SAMPLES {
            class.push(nanoseconds as f64 / operations);
        }
    }
    compare(times)
}

fn compare([mut first, mut last]: [Vec<f64>; 2]) -> Compared {
    let mut all: Vec<f64> = first.iter().chain(&last).copied().collect();
    for times in [&mut first, &mut last, &mut all] {
        times.sort_by(f64::total_cmp);
    }
    // Interruptions slow down measurements of both classes, so increasing numbers of the slowest are left out.
    let cropped = [100, 99, 95, 90, 80, 60].map(|percent| {
        let most = all[(all.len() * percent / 100).max(1) - 1];
        let upto = |times: &[f64]| times[..times.partition_point(|time| *time <= most)].to_vec();
        welch(&upto(&first), &upto(&last))
    });
    let t = cropped.into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs())).expect("there are some");
    Compared { t, difference: first[first.len() / 2] - last[last.len() / 2] }
}

fn welch(a: &[f64], b: &[f64]) -> f64 {
    let moments = |values: &[f64]| {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (moments(a), moments(b));
    (mean_a - mean_b) / (error_a + error_b).sqrt()
}

/// Tokens whose HMAC is wrong, all written to the same place before they are verified.
fn tokens() -> Compared {
    let config = config("sqlite://unused.db");
    let keyring = Keyring::new(&HmacSecret::parse(SECRET).expect("a good secret"), &config, Stamp::random());
    let guesses: Vec<[String; 2]> = (0..64).map(|_| wrong_tokens(&keyring, &config)).collect();
    let mut token = guesses[0][0].clone();
    measure(1.0, |place| {
        token.clear();
        token.push_str(&guesses[random() as usize % guesses.len()][usize::from(place == Wrong::Last)]);
        let started = Instant::now();
        let verified = token::verify(black_box(&token), &keyring, &config, NOW);
        let took = started.elapsed();
        assert!(black_box(verified).is_none());
        took.as_nanos() as u64
    })
}

fn wrong_tokens(keyring: &Keyring, config: &Config) -> [String; 2] {
    let claims = json!({
        "iss": config.issuer,
        "sub": "usr_1",
        "aud": [config.issuer],
        "exp": NOW + 60,
        "iat": NOW,
        "jti": format!("{:016x}{:016x}", random(), random()),
        "scope": "posts:read",
        "id": 1,
        "nick": "Alice",
        "username": "alice",
        "gen": 0,
    });
    let claims: Claims<'_> = serde_json::from_value(claims).expect("claims");
    let good = token::issue(keyring, Kind::User, &claims);
    assert!(token::verify(&good, keyring, config, NOW).is_some());
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    [Wrong::First, Wrong::Last]
        .map(|place| format!("{message}.{}", URL_SAFE_NO_PAD.encode(wrong(&signature, place, 0))))
}

/// Digests of client secrets that share the directory's key with a registered one, so that they are compared with it.
fn digests() -> Compared {
    const SHARED_BYTES: usize = 8;
    const OPERATIONS: usize = 16;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = config(&format!("sqlite://{}", folder.path().join("gatebird.db").display()));
    let registered: Vec<u8> = (0..4).flat_map(|_| random().to_le_bytes()).collect();
    let rows = format!(
        "INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('a', 'a', 'a', '', 0);
         INSERT INTO domains (id, user_id, host, plan, created_at)
         VALUES ('dom_0000000000000000000000', 1, 'a.example.com', 'free', 0);
         INSERT INTO secrets (domain_id, digest, hint, created_at)
         VALUES ('dom_0000000000000000000000', X'{}', '', 0)",
        hexadecimal(&registered)
    );
    let db = Db::open(&config.database).expect("a database");
    db.write_now(|conn| Ok(conn.batch_execute(&rows)?)).expect("rows");
    let keyring = Keyring::new(&HmacSecret::parse(SECRET).expect("a good secret"), &config, Stamp::random());
    let directory = Directory::new(keyring);
    db.read_now(|conn| directory.catch_up(conn)).expect("a directory");
    assert!(directory.by_secret(&digest(&registered)).is_some());
    let guesses: Vec<[SecretDigest; 2]> = (0..64)
        .map(|_| [Wrong::First, Wrong::Last].map(|place| digest(&wrong(&registered, place, SHARED_BYTES))))
        .collect();
    measure(OPERATIONS as f64, |place| {
        let guess = guesses[random() as usize % guesses.len()][usize::from(place == Wrong::Last)];
        let started = Instant::now();
        for _ in 0..OPERATIONS {
            assert!(black_box(directory.by_secret(black_box(&guess))).is_none());
        }
        started.elapsed().as_nanos() as u64
    })
}

/// The control: a comparison that stops at the first difference.
fn leaking() -> Compared {
    const OPERATIONS: usize = 16;
    let registered: Vec<u8> = (0..4).flat_map(|_| random().to_le_bytes()).collect();
    let guesses: Vec<[Vec<u8>; 2]> =
        (0..64).map(|_| [Wrong::First, Wrong::Last].map(|place| wrong(&registered, place, 0))).collect();
    let mut guess = registered.clone();
    measure(OPERATIONS as f64, |place| {
        guess.copy_from_slice(&guesses[random() as usize % guesses.len()][usize::from(place == Wrong::Last)]);
        let started = Instant::now();
        for _ in 0..OPERATIONS {
            let equal = black_box(&guess).iter().zip(black_box(&registered)).all(|(a, b)| black_box(a) == black_box(b));
            assert!(!black_box(equal));
        }
        started.elapsed().as_nanos() as u64
    })
}

/// The largest allowed relative difference between the kinds of hashes.
const REFUSALS_DIFFER: f64 = 1.05;

/// Refuses wrong passwords for each kind of stored hash in turn. Returns whether all take equally long.
fn refusals() -> bool {
    const COST: u32 = 8;
    const DEAREST: u32 = 9;
    let password = NewPassword::parse("correct horse battery staple", &[]).expect("a strong password");
    let own = |cost| Some(hash_now(&password, cost).expect("hashes"));
    let imported = |cost| Some(bcrypt::non_truncating_hash("correct horse battery staple", cost).expect("hashes"));
    let kinds = [
        ("no user", None),
        ("own hash", own(COST)),
        ("own hash of cost 4", own(4)),
        ("own hash of cost 9", own(DEAREST)),
        ("imported hash", imported(COST)),
        ("imported hash of cost 4", imported(4)),
        ("imported hash of cost 9", imported(DEAREST)),
    ];
    let hasher = Hasher::new(COST, 2);
    let mut times = vec![Vec::new(); kinds.len()];
    actix_web::rt::System::new().block_on(async {
        for _ in 0..200 {
            for ((_, stored), times) in kinds.iter().zip(&mut times) {
                let wrong = Password::typed("wrong horse battery staple").expect("short enough");
                let started = Instant::now();
                let checked = hasher.check(Holder::network(Network::of(None)), wrong, stored.clone(), DEAREST).await;
                times.push(started.elapsed().as_secs_f64());
                assert!(!checked.expect("a turn").matches);
            }
        }
    });
    let medians = times.iter_mut().map(|times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let medians: Vec<f64> = medians.collect();
    for ((kind, _), median) in kinds.iter().zip(&medians) {
        println!("refusal: {kind:32} median {:8.3} ms", median * 1e3);
    }
    let (least, most) = (medians.iter().copied().fold(f64::MAX, f64::min), medians.iter().copied().fold(0.0, f64::max));
    most <= least * REFUSALS_DIFFER
}

/// Uses SQLite, because a digest cannot be built from given bytes otherwise.
fn digest(bytes: &[u8]) -> SecretDigest {
    let mut conn = SqliteConnection::establish(":memory:").expect("SQLite");
    let literal = sql::<Binary>(&format!("X'{}'", hexadecimal(bytes)));
    diesel::select(literal).get_result(&mut conn).expect("a digest")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

fn config(database: &str) -> Config {
    let settings = [("DATABASE_URL", database), ("JWT_SECRET", SECRET)];
    let get = |key: &str| settings.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
    Config::load(get).expect("good settings")
}

fn main() -> ExitCode {
    let mut good = refusals();
    for (name, leaks, run) in [
        ("HMAC of a token", false, tokens as fn() -> Compared),
        ("digest of a client secret", false, digests),
        ("a comparison that stops early", true, leaking),
    ] {
        let compared: Vec<Compared> = (0..RUNS).map(|_| run()).collect();
        for Compared { t, difference } in &compared {
            println!("{name:32} t = {t:9.2}   medians differ by {difference:8.1} ns");
        }
        good &= match leaks {
            true => compared.iter().all(|compared| compared.t.abs() >= T),
            false => !compared.iter().all(Compared::is_apart),
        };
    }
    println!("{}", if good { "nothing to be seen" } else { "there is a difference, or too much noise to see one" });
    ExitCode::from(u8::from(!good))
}
