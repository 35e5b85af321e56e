//! Figures outside of the rows: growth of the database, cold start, idle memory.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

use crate::fixture::Fixture;
use crate::load::{self, Load};
use crate::schedule::Mode;
use crate::server::{self, Cores, Server};
use crate::{CONNECTIONS, DEFAULTS, Result};

/// An upper bound on the time for a million tokens.
const LIMIT: Duration = Duration::from_secs(300);
/// An upper bound on the delay of a write.
const SETTLE: Duration = Duration::from_secs(2);
/// Starts of each kind.
const STARTS: usize = 5;

/// Bytes of the database file and of its write-ahead log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) file: u64,
    pub(crate) log: u64,
}

impl Size {
    fn of(directory: &Path) -> Result<Self> {
        let database = server::database(directory);
        let log = std::fs::metadata(directory.join("gatebird.db-wal")).map_or(0, |data| data.len());
        Ok(Self { file: std::fs::metadata(database)?.len(), log })
    }
}

/// The growth of the database by issued tokens.
pub(crate) struct Growth {
    pub(crate) tokens: u64,
    pub(crate) before: Size,
    pub(crate) after: Size,
    pub(crate) elapsed: Duration,
    pub(crate) errors: u64,
}

/// Issues that many tokens and measures the database before and after.
pub(crate) fn database_size(fixture: Rc<Fixture>, tokens: u64) -> Result<Growth> {
    eprintln!("issuing {tokens} tokens");
    let requests: Vec<_> = fixture.clients.iter().map(crate::token).collect();
    let mode = Mode::Count { count: tokens, limit: LIMIT };
    let load =
        Load { server: fixture.server.address, requests: &requests, connections: CONNECTIONS, expect: 200, mode };
    std::thread::sleep(SETTLE);
    let before = Size::of(fixture.directory.path())?;
    let outcome = load::run(&load, |_, _, _| {})?;
    std::thread::sleep(SETTLE);
    let after = Size::of(fixture.directory.path())?;
    let issued = outcome.latencies.len() as u64;
    if issued + outcome.errors < tokens {
        return Err(format!("only {issued} of {tokens} tokens in {LIMIT:?}").into());
    }
    if let Some(error) = outcome.first_error {
        eprintln!("issuing tokens: {error}");
    }
    Ok(Growth { tokens: issued, before, after, elapsed: outcome.elapsed, errors: outcome.errors })
}

/// A signature of a token by a private key.
#[derive(Clone, Copy)]
pub(crate) enum Signature {
    Es256,
    EdDsa,
    Rs256,
}

impl Signature {
    /// Signatures per second of AWS-LC alone with one parsed key on the servers' core.
    pub(crate) fn per_second(self, cores: Cores, time: Duration) -> Result<f64> {
        let signing = move || {
            if let Some(core) = cores.server {
                core_affinity::set_for_current(core);
            }
            let mut sign = self.with_new_key()?;
            let (started, mut count) = (Instant::now(), 0_u32);
            while started.elapsed() < time {
                sign()?;
                count += 1;
            }
            Ok(f64::from(count) / started.elapsed().as_secs_f64())
        };
        let signed: std::result::Result<f64, Unspecified> =
            std::thread::spawn(signing).join().map_err(|_| "the signing thread panicked")?;
        Ok(signed?)
    }

    /// Signs as many bytes as a token has.
    fn with_new_key(
        self,
    ) -> std::result::Result<Box<dyn FnMut() -> std::result::Result<(), Unspecified>>, Unspecified> {
        const MESSAGE: &[u8] = &[0; 600];
        let random = SystemRandom::new();
        Ok(match self {
            Signature::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
                Box::new(move || pair.sign(&random, MESSAGE).map(drop))
            }
            Signature::EdDsa => {
                let pair = Ed25519KeyPair::generate()?;
                Box::new(move || pair.try_sign(MESSAGE).map(drop))
            }
            Signature::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                Box::new(move || pair.sign(&RSA_PKCS1_SHA256, &random, MESSAGE, &mut signature))
            }
        })
    }
}

/// Starts of one kind: time until ready, and resident memory then.
#[derive(Default)]
pub(crate) struct Starts {
    pub(crate) seconds: Vec<f64>,
    pub(crate) resident: Vec<f64>,
}

impl Starts {
    fn add(&mut self, directory: &Path, cores: Cores) -> Result<()> {
        let (server, ready) = Server::start(directory, DEFAULTS, cores)?;
        self.seconds.push(ready.as_secs_f64());
        self.resident.push(server.resident()? as f64);
        server.stop()
    }
}

/// Starts without any user or domain.
pub(crate) struct ColdStarts {
    /// In an empty directory: creates the key and the database, and migrates.
    pub(crate) first: Starts,
    /// On the database that the first start left.
    pub(crate) again: Starts,
}

/// Starts a server in new directories, and again in each of them.
pub(crate) fn cold_starts(cores: Cores) -> Result<ColdStarts> {
    eprintln!("starting {STARTS} servers twice");
    let mut starts = ColdStarts { first: Starts::default(), again: Starts::default() };
    for _ in 0..STARTS {
        let directory = server::directory()?;
        starts.first.add(directory.path(), cores)?;
        starts.again.add(directory.path(), cores)?;
    }
    Ok(starts)
}
