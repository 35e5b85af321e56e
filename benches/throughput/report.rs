//! The output of the benchmark: tables in GitHub's Markdown, and the targets with PASS or MISS.

use crate::figures::{ColdStarts, Growth};
use crate::fixture::Import;
use crate::rounds::{Measured, Round, RowResult, median, ratio};
use crate::server::Cores;
use crate::{CONNECTIONS, DEFAULTS, Domains, Options, Row, Target};

const TARGET_IDLE: f64 = 20e6;
const TARGET_RESIDENT: f64 = 40e6;
const TARGET_START: f64 = 0.150;
/// A ceiling that leaves its core idle for longer was delayed by the generator or the machine.
const SATURATED: f64 = 0.90;
/// A server that waited longer for its core shared it with another process.
const DISTURBED: f64 = 0.10;

/// The results. `None` was not selected by `--only`.
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cores: Cores,
    pub(crate) results: Vec<RowResult>,
    /// Resident bytes with many domains, before load.
    pub(crate) memory: Option<u64>,
    pub(crate) imported: Option<Import>,
    /// Resident bytes per revoked token.
    pub(crate) revoked: Option<f64>,
    pub(crate) size: Option<Growth>,
    pub(crate) starts: Option<ColdStarts>,
}

impl Report<'_> {
    /// Failed requests of the server and of the ceiling.
    pub(crate) fn errors(&self) -> u64 {
        let rounds =
            self.results.iter().flat_map(|result| result.measured.server.iter().chain(&result.measured.ceiling));
        rounds.map(|round| round.errors).sum::<u64>() + self.size.as_ref().map_or(0, |growth| growth.errors)
    }

    pub(crate) fn print(&self) {
        let options = self.options;
        println!("\n# Gatebird, throughput\n");
        match (self.cores.server, self.cores.generator) {
            (Some(server), Some(generator)) => {
                print!("Server on core {}, load generator on core {}; ", server.id, generator.id);
            }
            _ => print!("NOT PINNED, two cores are needed; "),
        }
        println!("{CONNECTIONS} connections, medians of {} rounds of {:?}.", options.rounds, options.measure);
        if options.quick || cfg!(debug_assertions) {
            println!("A QUICK RUN (or a debug build): it shows that the benchmark works, the figures mean nothing.");
        }
        if !self.results.is_empty() {
            self.print_rows();
            self.print_load();
        }
        self.print_figures();
        self.print_targets();
    }

    fn print_rows(&self) {
        println!("\n| call | requests/s | p50 µs | p99 µs | errors | of the ceiling | p99 / ceiling's p99 |");
        println!("|---|--:|--:|--:|--:|--:|--:|");
        for RowResult { name, measured, .. } in &self.results {
            let columns = |rounds: &[Round]| {
                let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
                let errors: u64 = rounds.iter().map(|round| round.errors).sum();
                format!("{:.0} | {:.0} | {:.0} | {errors}", of(|r| r.rate), of(|r| r.p50), of(|r| r.p99))
            };
            println!("| ceiling of {name} | {} | 1 | 1 |", columns(&measured.ceiling));
            let (rate, p99) = ratios(&measured.server, &measured.ceiling);
            println!("| **{name}** | {} | {rate:.2} | {p99:.2} |", columns(&measured.server));
        }
    }

    /// The load of both sides, which shows whether the figures are reliable.
    fn print_load(&self) {
        println!("\n| shares of the time | generator ran | server ran | server waited for its core |");
        println!("|---|--:|--:|--:|");
        let mut notes = Vec::new();
        for RowResult { name, measured, .. } in &self.results {
            for (rounds, is_ceiling) in [(&measured.ceiling, true), (&measured.server, false)] {
                let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
                let (generator, server, waited) = (of(|r| r.generator), of(|r| r.server), of(|r| r.waited));
                let label = if is_ceiling { format!("ceiling of {name}") } else { format!("**{name}**") };
                println!("| {label} | {} | {} | {} |", percent(generator), percent(server), percent(waited));
                // All zero: this kernel does not report it.
                if waited > DISTURBED {
                    notes.push(format!("{label} shared its core with other processes"));
                } else if is_ceiling && server > 0.0 && server < SATURATED {
                    notes.push(format!("the ceiling of {name} did not fill its core, so the ratio is flattering"));
                }
            }
        }
        for note in notes {
            println!("\nNote: {note}.");
        }
    }

    fn print_figures(&self) {
        let Report { starts, memory, imported, revoked, size, .. } = self;
        if starts.is_none() && memory.is_none() && imported.is_none() && revoked.is_none() && size.is_none() {
            return;
        }
        println!("\n| figure | |\n|---|--:|");
        if let Some(starts) = &self.starts {
            for (kind, starts) in [("first start", &starts.first), ("start on a migrated database", &starts.again)] {
                let best = starts.seconds.iter().copied().fold(f64::INFINITY, f64::min);
                let middle = median(starts.seconds.iter().copied());
                println!("| {kind}: ready after, best | {} |", milliseconds(best));
                println!("| {kind}: ready after, median of {} | {} |", starts.seconds.len(), milliseconds(middle));
                println!("| {kind}: resident, no domains | {} |", megabytes(median(starts.resident.iter().copied())));
            }
        }
        if let Some(memory) = self.memory {
            println!(
                "| resident with {} domains, restarted, before load | {} |",
                self.options.many,
                megabytes(memory as f64)
            );
        }
        if let Some(import) = &self.imported {
            let domains = import.domains;
            println!("| {domains} domains: imported in | {:.1} s |", import.took.as_secs_f64());
            println!("| {domains} domains: ready after | {} |", milliseconds(import.ready.as_secs_f64()));
            println!("| {domains} domains: resident, before load | {} |", megabytes(import.resident as f64));
            println!(
                "| {domains} domains: a change is answered and in force after, median | {} |",
                milliseconds(import.change.as_secs_f64())
            );
        }
        if let Some(bytes) = self.revoked {
            println!("| resident per revoked token | {bytes:.0} bytes |");
        }
        if let Some(growth) = &self.size {
            for (when, size) in [("before", growth.before), ("after", growth.after)] {
                println!("| gatebird.db + -wal {when} | {} + {} bytes |", size.file, size.log);
            }
            println!("| tokens issued in between | {} in {:.1} s |", growth.tokens, growth.elapsed.as_secs_f64());
        }
    }

    fn print_target(&self, RowResult { name, row, measured }: &RowResult, wanted: Target) {
        let (rate, p99) = ratios(&measured.server, &measured.ceiling);
        match wanted {
            Target::OfCeiling(least) => {
                target(rate >= least, &format!("{name}: {rate:.3} of the ceiling, at least {least}"));
            }
            Target::P99(most) => {
                target(p99 <= most, &format!("{name}: p99 {p99:.2} times the ceiling's, at most {most}"));
            }
            Target::OfOneDomain(least) => {
                let same = |other: &Row| other.settings == row.settings && other.domains == Domains::One;
                self.print_share(name, row, measured, least, "the rate with one", same);
            }
            Target::P99OfNoneRevoked(most) => {
                let is_base = |other: &&RowResult| {
                    other.row.call == row.call
                        && other.row.domains == Domains::One
                        && other.row.settings == row.settings
                };
                if let Some(base) = self.results.iter().find(is_base) {
                    let times = ratio(&measured.server, &base.measured.server, |round| round.p99);
                    target(times <= most, &format!("{name}: p99 {times:.3} times that without, at most {most}"));
                }
            }
            Target::Signed(_, least) => {
                let ceiling = median(measured.ceiling.iter().map(|round| round.rate));
                let alone = median(measured.signatures.iter().copied());
                let bound = alone / (ceiling + alone);
                let text = format!(
                    "{name}: {rate:.3} of the ceiling, at least {least} (AWS-LC alone signs {alone:.0}/s; the ceiling and one \
                     such signature would be {bound:.3})"
                );
                target(rate >= least, &text);
            }
            Target::OfHs256(least) => {
                let same = |other: &Row| other.settings == DEFAULTS && other.domains == row.domains;
                self.print_share(name, row, measured, least, "the rate with HS256", same);
            }
            Target::Rsa(rate, share) => {
                let served = median(measured.server.iter().map(|round| round.rate));
                let alone = median(measured.signatures.iter().copied());
                let text = format!(
                    "{name}: {served:.0}/s, at least {rate:.0}/s, or {share} of the {alone:.0}/s that AWS-LC alone signs \
                     (is {:.3})",
                    served / alone
                );
                target(served >= rate || served >= share * alone, &text);
            }
        }
    }

    /// Compares with the row of the same call that `is_base`.
    fn print_share(
        &self,
        name: &str,
        row: &Row,
        measured: &Measured,
        least: f64,
        base: &str,
        is_base: impl Fn(&Row) -> bool,
    ) {
        let found = self.results.iter().find(|other| other.row.call == row.call && is_base(other.row));
        if let Some(found) = found {
            let share = ratio(&measured.server, &found.measured.server, |round| round.rate);
            target(share >= least, &format!("{name}: {share:.3} of {base}, at least {least}"));
        }
    }

    fn print_targets(&self) {
        println!("\nTargets:\n");
        for result in &self.results {
            for wanted in result.row.targets {
                self.print_target(result, *wanted);
            }
        }
        if let Some(starts) = &self.starts {
            // The larger of both kinds of start.
            let idle =
                f64::max(median(starts.first.resident.iter().copied()), median(starts.again.resident.iter().copied()));
            target(
                idle <= TARGET_IDLE,
                &format!("resident idle {}, at most {}", megabytes(idle), megabytes(TARGET_IDLE)),
            );
            for (kind, starts) in [("first start", &starts.first), ("start on a migrated database", &starts.again)] {
                let middle = median(starts.seconds.iter().copied());
                let text =
                    format!("{kind}: ready after {}, at most {}", milliseconds(middle), milliseconds(TARGET_START));
                target(middle <= TARGET_START, &text);
            }
        }
        if let Some(memory) = self.memory {
            let (many, memory) = (self.options.many, memory as f64);
            let text =
                format!("resident with {many} domains {}, at most {}", megabytes(memory), megabytes(TARGET_RESIDENT));
            target(memory <= TARGET_RESIDENT, &text);
        }
        if let Some(import) = &self.imported {
            let (domains, resident) = (import.domains, import.resident as f64);
            let (ready, change) = (import.ready.as_secs_f64(), import.change.as_secs_f64());
            target(ready <= 5.0, &format!("{domains} domains: ready after {}, at most 5 s", milliseconds(ready)));
            target(resident <= 450e6, &format!("{domains} domains: resident {}, at most 450 MB", megabytes(resident)));
            target(change <= 0.050, &format!("{domains} domains: a change in {}, at most 50 ms", milliseconds(change)));
        }
        if let Some(growth) = &self.size {
            // The usage of a day has a constant size, and a checkpoint empties the write-ahead log.
            let bounded = growth.after.file <= growth.before.file + 65_536 && growth.after.log <= 4_500_000;
            target(bounded, &format!("{} tokens leave no row each in the database", growth.tokens));
        }
        target(self.errors() == 0, &format!("{} errors, at most 0", self.errors()));
    }
}

/// Rate and p99 as multiples of those of the ceiling.
fn ratios(server: &[Round], ceiling: &[Round]) -> (f64, f64) {
    (ratio(server, ceiling, |round| round.rate), ratio(server, ceiling, |round| round.p99))
}

fn target(reached: bool, text: &str) {
    println!("- {} {text}", if reached { "PASS" } else { "MISS" });
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.0} ms", seconds * 1e3)
}
