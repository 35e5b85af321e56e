//! The abuse battery: during an attack on a real server, a bystander requests tokens, verifies them, signs in, rotates
//! a secret, revokes tokens and verifies a host. One command:
//!
//! ```text
//! cargo bench --bench abuse                         every attack for a minute, about 45 minutes
//! cargo bench --bench abuse -- --quick              every attack for three seconds, with looser goals
//! cargo bench --bench abuse -- --only A5            one attack (A1 is all of A1-...), or several with commas
//! cargo bench --bench abuse -- --seconds 10         every attack for that many seconds
//! cargo bench --bench abuse -- --postgres URL       on a schema of that PostgreSQL instead of SQLite
//! ```
//!
//! It prints a table with the bystander's success rate and latencies and with the server's memory, and exits with 1 if
//! a goal is missed. The first row, `control`, has no attack and shows the speed of the machine.
//!
//! Each attack gets a new server with the default settings. The bystander has its own account and
//! network; the attacker connects from another loopback address. The attacker's threads have a lower priority than the
//! server and the bystander, as if they ran on another machine.
//!
//! `attacks` has the table of attacks, `attack` their parts, `bystander` the measurement, `stage` and `watch` the
//! server, `report` the goals. Starting the server and writing requests is shared with the throughput benchmark.

mod attack;
mod attacks;
mod bystander;
mod client;
mod people;
mod report;
#[path = "../../benches/throughput/request.rs"]
mod request;
#[allow(dead_code, reason = "the throughput benchmark's; this program starts a server only")]
#[path = "../../benches/throughput/server.rs"]
mod server;
mod stage;
mod watch;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use attack::{Attack, Run};
use bystander::Bystander;
use report::{Goals, Outcome};
use stage::Stage;

/// Any reason why an attack cannot run.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The niceness of the attacker's threads.
const PRIORITY: i32 = 10;
/// The time of operations before the attack. They do not count.
const WARM_UP: Duration = Duration::from_secs(1);

/// The options of the command line.
struct Options {
    quick: bool,
    /// The measured time of each attack, if not the default.
    seconds: Option<u64>,
    only: Vec<String>,
    postgres: Option<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { quick: false, seconds: None, only: Vec::new(), postgres: None };
        // cargo passes `--bench` to every bench target, after the options given by hand.
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--seconds" => options.seconds = Some(value()?.parse()?),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--postgres" => options.postgres = Some(value()?),
                _ => return Err(format!("unknown option {argument}; see the top of tests/abuse/main.rs").into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, attack: &Attack) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|name| {
                let rest = attack.name.strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
    }

    fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 3 } else { 60 }))
    }

    /// The time after the attack at which the memory is measured again.
    fn after(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 10 })
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if cfg!(debug_assertions) {
        // `cargo test --all-targets` also runs this.
        println!("This is a debug build; use: cargo bench --bench abuse");
        return ExitCode::SUCCESS;
    }
    // The attacker needs more file descriptors than the server has connections.
    drop(rlimit::increase_nofile_limit(u64::MAX));
    let goals = if options.quick { Goals::QUICK } else { Goals::FULL };
    let mut outcomes = Vec::new();
    for attack in attacks::ALL.iter().filter(|attack| options.wants(attack)) {
        eprintln!("{}: {}", attack.name, attack.what);
        match play(attack, &options) {
            Ok(outcome) => {
                eprintln!("{}", outcome.row(&goals));
                outcomes.push(outcome);
            }
            Err(error) => {
                eprintln!("{} could not run: {error}", attack.name);
                return ExitCode::FAILURE;
            }
        }
    }
    match report::print(&outcomes, &goals, options.after()) {
        0 if !outcomes.is_empty() => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} of {} attacks missed a goal.", outcomes.len());
            ExitCode::FAILURE
        }
    }
}

/// Runs one attack on a new server.
fn play(attack: &Attack, options: &Options) -> Result<Outcome> {
    let mut stage = Stage::start(attack.settings, options.postgres.as_deref(), options.quick)?;
    let jobs = (attack.prepare)(&mut stage)?;
    let bystander = Bystander::sign_up(stage.address())?;
    let start = Instant::now();
    bystander.run(start, start + WARM_UP);

    let (run, server) = (Run::default(), &stage.server);
    let lead = if options.quick { Duration::ZERO } else { attack.lead };
    let (size, processor) = (stage.sizes(), server.processor_time());
    let began = Instant::now();
    let over = std::sync::atomic::AtomicBool::new(false);
    let (samples, measured, attacked, seen, used, after) = thread::scope(|scope| {
        let watching = watch::watch(scope, server, &over);
        let playing: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let run = &run;
                scope.spawn(move || {
                    let _ = rustix::process::setpriority_process(None, PRIORITY);
                    job(run);
                })
            })
            .collect();
        thread::sleep(lead);
        let start = Instant::now();
        let samples = bystander.run(start, start + options.measured());
        let (measured, attacked) = (start.elapsed(), began.elapsed());
        let used = server.processor_time().ran.saturating_sub(processor.ran);
        run.end();
        playing.into_iter().for_each(|job| drop(job.join()));
        thread::sleep(options.after());
        let after = server.resident().unwrap_or_default();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (samples, measured, attacked, watching.join().unwrap_or_default(), used, after)
    });
    let (latencies, failures) = bystander::summarized(&samples);
    let grown = stage.sizes();
    let counts = std::mem::take(&mut *run.counts());
    Ok(Outcome {
        name: attack.name,
        what: attack.what,
        bounds: attack.bounds,
        measured,
        attacked,
        latencies,
        failures,
        peak: seen.peak,
        after,
        processor: used,
        log: grown.0.saturating_sub(size.0),
        database: grown.1.saturating_sub(size.1),
        panics: stage.panics(),
        same_process: watch::is_running(&stage.server),
        ended: seen.ended,
        counts,
    })
}
