//! Measures a row in rounds. In each round the ceiling and then the server get the same load. The result is the
//! medians.

use std::rc::Rc;
use std::time::Instant;

use crate::figures::Signature;
use crate::fixture::Fixture;
use crate::load::{self, Load};
use crate::schedule::Mode;
use crate::server::{Cores, ProcessorTime, Server};
use crate::{CONNECTIONS, Options, Result, Row, Target, ceiling};

/// The result of one round for one process.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) errors: u64,
    /// Shares of the round's time in which the generator ran, the server ran, and the server waited for its core.
    pub(crate) generator: f64,
    pub(crate) server: f64,
    pub(crate) waited: f64,
}

/// A row with its running processes and the rounds so far.
pub(crate) struct Candidate {
    pub(crate) name: String,
    row: &'static Row,
    requests: Vec<Vec<u8>>,
    fixture: Rc<Fixture>,
    ceiling: Server,
    cores: Cores,
    measured: Measured,
}

/// Both sides of a row, round by round.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) ceiling: Vec<Round>,
    pub(crate) server: Vec<Round>,
    /// Signatures per second of AWS-LC alone on the server's core, if the row is compared with it.
    pub(crate) signatures: Vec<f64>,
    first_error: Option<String>,
}

/// A measured row.
pub(crate) struct RowResult {
    pub(crate) name: String,
    pub(crate) row: &'static Row,
    pub(crate) measured: Measured,
}

impl Candidate {
    pub(crate) fn prepare(row: &'static Row, name: String, fixture: Rc<Fixture>, cores: Cores) -> Result<Self> {
        let requests: Vec<_> = fixture.clients.iter().map(row.request).collect();
        // The ceiling's answer has the length of a real one.
        let first = requests.get(..1).unwrap_or_default();
        let load =
            Load { server: fixture.server.address, requests: first, connections: 1, expect: 200, mode: Mode::Each };
        let mut bytes = 0;
        let outcome = load::run(&load, |_, _, body| bytes = body.len())?;
        if let Some(error) = outcome.first_error {
            return Err(format!("{name}: {error}").into());
        }
        let request = first.first().ok_or("no domain, no request")?;
        let ceiling = ceiling::start(request, bytes, cores)?;
        Ok(Self { name, row, requests, fixture, ceiling, cores, measured: Measured::default() })
    }

    /// One round of the ceiling and one of the server.
    pub(crate) fn round(&mut self, options: &Options, seed: u64) -> Result<()> {
        let ceiling = measure(&self.ceiling, &self.requests, options, seed, &mut self.measured.first_error)?;
        let server = measure(&self.fixture.server, &self.requests, options, seed, &mut self.measured.first_error)?;
        self.measured.ceiling.push(ceiling);
        self.measured.server.push(server);
        for target in self.row.targets {
            let signature = match target {
                Target::Signed(signature, _) => *signature,
                Target::Rsa(..) => Signature::Rs256,
                _ => continue,
            };
            self.measured.signatures.push(signature.per_second(self.cores, options.measure)?);
        }
        Ok(())
    }

    /// Stops the row's processes (the server, if no other row needs it) and returns the figures.
    pub(crate) fn finish(self) -> RowResult {
        if let Some(error) = &self.measured.first_error {
            eprintln!("{}: {error}", self.name);
        }
        RowResult { name: self.name, row: self.row, measured: self.measured }
    }
}

fn measure(
    server: &Server,
    requests: &[Vec<u8>],
    options: &Options,
    seed: u64,
    first_error: &mut Option<String>,
) -> Result<Round> {
    let mode = Mode::For { warm_up: options.warm_up, measure: options.measure, seed };
    let load = Load { server: server.address, requests, connections: CONNECTIONS, expect: 200, mode };
    let (started, own, theirs) = (Instant::now(), ProcessorTime::of_this_thread(), server.processor_time());
    let mut outcome = load::run(&load, |_, _, _| {})?;
    let time = started.elapsed().as_secs_f64();
    let (own_after, theirs_after) = (ProcessorTime::of_this_thread(), server.processor_time());
    let share =
        |before: std::time::Duration, after: std::time::Duration| after.saturating_sub(before).as_secs_f64() / time;

    if outcome.latencies.is_empty() {
        return Err(format!("not one answer in a round; first error: {:?}", outcome.first_error).into());
    }
    outcome.latencies.sort_unstable();
    *first_error = first_error.take().or(outcome.first_error);
    Ok(Round {
        rate: outcome.latencies.len() as f64 / outcome.elapsed.as_secs_f64(),
        p50: percentile(&outcome.latencies, 50),
        p99: percentile(&outcome.latencies, 99),
        errors: outcome.errors,
        generator: share(own.ran, own_after.ran),
        server: share(theirs.ran, theirs_after.ran),
        waited: share(theirs.waited, theirs_after.waited),
    })
}

/// The smallest latency, in microseconds, that at least that many percent of the sorted ones do not exceed.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    f64::from(sorted.get(rank - 1).copied().unwrap_or(0)) / 1_000.0
}

/// The middle value, or the mean of the two middle values; 0 for no values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => (values[middle - 1] + values[middle]) / 2.0,
        (middle, _) => values[middle],
    }
}

/// The median of the ratios of adjacent rounds. It is steadier than a ratio of medians if the speed of the machine
/// changes.
pub(crate) fn ratio(above: &[Round], below: &[Round], value: fn(&Round) -> f64) -> f64 {
    median(above.iter().zip(below).map(|(above, below)| value(above) / value(below)))
}
