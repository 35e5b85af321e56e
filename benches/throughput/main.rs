//! The benchmark of issuing and verifying tokens. One command:
//!
//! ```text
//! cargo bench --bench throughput                  the whole measurement, a few minutes
//! cargo bench --bench throughput -- --quick       checks that it runs; the figures mean nothing
//! cargo bench --bench throughput -- --only /token rows and figures whose name contains "/token"
//! ```
//!
//! The release server runs on one core, and the load generator (this process) on another. Every row is compared with
//! its *ceiling*: a process with a bare actix-web handler on the server's core, which gets the same requests and
//! answers as many bytes. Ceiling and server alternate in short rounds, and every figure is a median over the rounds,
//! because wake-ups over loopback have two stable modes that differ by a factor of about two, and a single long run
//! shows only one of them.
//!
//! The server has its default settings, except one worker, no limits, tokens of one hour (so that none expires during a
//! run), a low bcrypt cost (only the set-up hashes) and no metrics listener.
//!
//! This file owns the options, the table of rows and the order of events. The load generator is
//! in `load`, `request` and `schedule`, processes are in `server` and `ceiling`, set-up through HTTP is in
//! `fixture`, repeated measuring in `rounds`, the figures that are no rows in `figures`, and
//! everything printed in `report`.

mod ceiling;
mod figures;
mod fixture;
mod load;
mod report;
mod request;
mod rounds;
mod schedule;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use figures::Signature;
use fixture::{Client, Fixtures};
use server::Cores;

/// Any reason why a figure cannot be measured.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Connections of the load generator, each with one request in flight.
const CONNECTIONS: usize = 32;

/// The domains of a row's server. Requests choose among them uniformly at random.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Domains {
    One,
    Many,
    /// A million, by `gatebird import domains`, ten per owner.
    Imported,
    /// One, and a million tokens that were revoked.
    Revoked,
}

/// Settings of a row's server, in addition to those of every measured server.
type Settings = &'static [(&'static str, &'static str)];

/// The default settings.
const DEFAULTS: Settings = &[];

const ES256: Settings = &[("JWT_ALGORITHM", "ES256")];
const EDDSA: Settings = &[("JWT_ALGORITHM", "EdDSA")];
const RS256: Settings = &[("JWT_ALGORITHM", "RS256")];

/// The target of a row.
#[derive(Clone, Copy)]
enum Target {
    /// At least that share of the ceiling's requests per second.
    OfCeiling(f64),
    /// A p99 of at most that many times the ceiling's.
    P99(f64),
    /// With many domains, at least that share of the rate with one.
    OfOneDomain(f64),
    /// A p99 of at most that many times that of the same call without revocations.
    P99OfNoneRevoked(f64),
    /// At least that share of the rate of the same call with HS256.
    OfHs256(f64),
    /// Like [`Target::OfCeiling`], and the rate of the signature by AWS-LC alone, which shows how much of the ceiling
    /// is possible.
    Signed(Signature, f64),
    /// That many requests per second, or that share of the RSA signatures per second of AWS-LC alone.
    Rsa(f64, f64),
}

/// One measured call.
struct Row {
    call: &'static str,
    domains: Domains,
    settings: Settings,
    /// Builds the request of one client. The ceiling derives its route from it.
    request: fn(&Client) -> Vec<u8>,
    targets: &'static [Target],
}

const ONE: &[Target] = &[Target::OfCeiling(0.45), Target::P99(3.0)];
const IMPORTED: &[Target] = &[Target::OfOneDomain(0.85)];
const MANY: &[Target] = &[Target::OfCeiling(0.45), Target::P99(3.0), Target::OfOneDomain(0.90)];
const REVOKED: &[Target] = &[Target::P99OfNoneRevoked(1.05)];

/// The measured calls.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { call: "POST /token",      domains: Domains::One,  settings: DEFAULTS, request: token,      targets: ONE },
    Row { call: "GET /v1/test",     domains: Domains::One,  settings: DEFAULTS, request: claims,     targets: ONE },
    Row { call: "POST /introspect", domains: Domains::One,  settings: DEFAULTS, request: introspect, targets: &[Target::OfCeiling(0.30)] },
    Row { call: "GET /verify",      domains: Domains::One,  settings: DEFAULTS, request: verify,     targets: &[] },
    Row { call: "POST /token",      domains: Domains::One,  settings: ES256,    request: token,      targets: &[Target::Signed(Signature::Es256, 0.30)] },
    Row { call: "GET /v1/test",     domains: Domains::One,  settings: ES256,    request: claims,     targets: &[Target::OfHs256(0.85)] },
    Row { call: "POST /token",      domains: Domains::One,  settings: EDDSA,    request: token,      targets: &[Target::Signed(Signature::EdDsa, 0.30)] },
    Row { call: "POST /token",      domains: Domains::One,  settings: RS256,    request: token,      targets: &[Target::Rsa(3_500.0, 0.85)] },
    Row { call: "POST /token",      domains: Domains::Many, settings: DEFAULTS, request: token,      targets: MANY },
    Row { call: "GET /v1/test",     domains: Domains::Many, settings: DEFAULTS, request: claims,     targets: MANY },
    Row { call: "GET /v1/test",     domains: Domains::Revoked,  settings: DEFAULTS, request: claims, targets: REVOKED },
    Row { call: "POST /token",      domains: Domains::Imported, settings: DEFAULTS, request: token,  targets: IMPORTED },
];

/// `POST /token` in its JSON form.
fn token(client: &Client) -> Vec<u8> {
    let body = serde_json::json!({ "clientSecret": client.secret });
    request::post("/token", &body, None)
}

/// `GET /v1/test` with an access token.
fn claims(client: &Client) -> Vec<u8> {
    request::get("/v1/test", Some(&client.token))
}

/// `POST /introspect` of an access token, as a library sends it.
fn introspect(client: &Client) -> Vec<u8> {
    request::form("/introspect", &format!("token={}", client.token), &client.id, &client.secret)
}

/// `GET /verify` with an access token, like a reverse proxy.
fn verify(client: &Client) -> Vec<u8> {
    request::get("/verify", Some(&client.token))
}

/// The options of the command line.
struct Options {
    quick: bool,
    only: Option<String>,
    rounds: usize,
    warm_up: Duration,
    measure: Duration,
    many: usize,
    imported: usize,
    revoked: usize,
    tokens: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let (mut quick, mut only) = (false, None);
        // cargo passes `--bench` to every bench target, after the options given by hand.
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => quick = true,
                "--only" => only = Some(arguments.next().ok_or("--only needs a text")?.clone()),
                other => {
                    return Err(format!("unknown option {other}; there are --quick and --only TEXT").into());
                }
            }
        }
        Ok(if quick {
            let (warm_up, measure) = (Duration::from_millis(100), Duration::from_millis(300));
            Self {
                quick,
                only,
                rounds: 2,
                warm_up,
                measure,
                many: 500,
                imported: 2_000,
                revoked: 2_000,
                tokens: 20_000,
            }
        } else {
            let (warm_up, measure) = (Duration::from_millis(200), Duration::from_secs(1));
            Self {
                quick,
                only,
                rounds: 7,
                warm_up,
                measure,
                many: 20_000,
                imported: 1_000_000,
                revoked: 1_000_000,
                tokens: 1_000_000,
            }
        })
    }

    /// Whether `--only` includes the row or figure of this name.
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|text| name.contains(text.as_str()))
    }

    fn count(&self, domains: Domains) -> usize {
        match domains {
            Domains::One | Domains::Revoked => 1,
            Domains::Many => self.many,
            Domains::Imported => self.imported,
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The ceiling is this same executable, started by `ceiling::start`.
    let done = match arguments.split_first() {
        Some((first, rest)) if first == ceiling::ARGUMENT => ceiling::serve(rest).map(|()| true),
        _ => Options::parse(&arguments).and_then(|options| run(&options)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints the selected rows and figures. Returns false if a request failed. A missed target is printed but
/// is no failure, because it depends on the machine.
fn run(options: &Options) -> Result<bool> {
    if cfg!(debug_assertions) && !options.quick {
        // `cargo test --all-targets` also runs this.
        println!("This is a debug build; measure with: cargo bench --bench throughput");
        return Ok(true);
    }
    let cores = Cores::split();
    let mut fixtures = Fixtures::new(cores);

    // All servers are set up first, so that the rows of one round are measured at nearly the same time: rows with many
    // domains are compared with those with one.
    let mut candidates = Vec::new();
    for row in ROWS {
        let count = options.count(row.domains);
        let algorithm = row.settings.iter().find(|(key, _)| *key == "JWT_ALGORITHM");
        let algorithm = algorithm.map(|(_, name)| format!("{name}, ")).unwrap_or_default();
        let mut name = format!("{}, {algorithm}{count} {}", row.call, if count == 1 { "domain" } else { "domains" });
        if row.domains == Domains::Revoked {
            name += &format!(", {} revoked tokens", options.revoked);
        }
        if !options.wants(&name) {
            continue;
        }
        let fixture = match row.domains {
            Domains::Imported => fixtures.imported(count)?,
            Domains::Revoked => fixtures.revoked(options.revoked)?,
            Domains::One | Domains::Many => fixtures.get(count, row.settings)?,
        };
        candidates.push(rounds::Candidate::prepare(row, name, fixture, cores)?);
    }
    for round in 1..=options.rounds {
        for candidate in &mut candidates {
            eprintln!("round {round} of {}: {}", options.rounds, candidate.name);
            candidate.round(options, round as u64)?;
        }
    }

    let size = match options.wants("database size") {
        true => Some(figures::database_size(fixtures.get(1, DEFAULTS)?, options.tokens)?),
        false => None,
    };
    let memory = fixtures.resident(options.many, DEFAULTS);
    let imported = fixtures.import();
    let revoked = fixtures.bytes_of_revocation();
    // Idle servers have timers too: they are stopped before others are timed.
    let results: Vec<_> = candidates.into_iter().map(rounds::Candidate::finish).collect();
    drop(fixtures);
    let starts = match options.wants("cold start") {
        true => Some(figures::cold_starts(cores)?),
        false => None,
    };

    if let (true, None, None, Some(only)) = (results.is_empty(), &size, &starts, &options.only) {
        return Err(format!("no row or figure is called anything with \"{only}\"").into());
    }
    let report = report::Report { options, cores, results, memory, imported, revoked, size, starts };
    report.print();
    Ok(report.errors() == 0)
}
