//! The table of results, in GitHub's Markdown, and the goals.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::attack::Bound;
use crate::bystander::Operation;

/// The goals for a bystander.
pub(crate) struct Goals {
    verify: Duration,
    others: Duration,
    memory: u64,
}

impl Goals {
    pub(crate) const FULL: Self =
        Self { verify: Duration::from_millis(10), others: Duration::from_millis(500), memory: 256 << 20 };
    /// The p99 of a few seconds is the slowest answer, and a shared machine may pause a process for longer than the
    /// goals allow. So the short form fails for refused requests, for memory, and only for very slow answers.
    pub(crate) const QUICK: Self =
        Self { verify: Duration::from_secs(2), others: Duration::from_secs(8), memory: 256 << 20 };

    fn of(&self, operation: Operation) -> Duration {
        if operation == Operation::Verify { self.verify } else { self.others }
    }
}

/// The result of one attack.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) bounds: &'static [Bound],
    /// The measured time, and the time of the attack.
    pub(crate) measured: Duration,
    pub(crate) attacked: Duration,
    /// The bystander's latencies, sorted.
    pub(crate) latencies: BTreeMap<Operation, Vec<Duration>>,
    pub(crate) failures: BTreeMap<String, usize>,
    /// The most resident bytes, and those some time after the attack.
    pub(crate) peak: u64,
    pub(crate) after: u64,
    pub(crate) processor: Duration,
    /// The growth of the log and of the database in bytes.
    pub(crate) log: u64,
    pub(crate) database: u64,
    pub(crate) panics: usize,
    /// Whether the process is still the one that was started.
    pub(crate) same_process: bool,
    /// Whether it was killed because of its memory.
    pub(crate) ended: bool,
    /// The attacker's counts.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Outcome {
    fn operations(&self) -> usize {
        self.latencies.values().map(Vec::len).sum()
    }

    fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// The missed goals, as text.
    pub(crate) fn missed(&self, goals: &Goals) -> Vec<String> {
        let mut missed = Vec::new();
        if self.failed() > 0 {
            missed.push(format!("{} of {} operations failed", self.failed(), self.operations()));
        }
        for (operation, latencies) in &self.latencies {
            let (p99, goal) = (percentile(latencies, 99), goals.of(*operation));
            if p99 > goal {
                missed.push(format!("p99 of {} {} ms", operation.name(), milliseconds(p99)));
            }
        }
        if self.peak > goals.memory {
            missed.push(format!("{} MiB of memory", self.peak >> 20));
        }
        if self.ended {
            missed.push("the server was killed because of its memory".to_owned());
        } else if !self.same_process {
            missed.push("the server's process ended".to_owned());
        }
        if self.panics > 0 {
            missed.push(format!("{} panics", self.panics));
        }
        let minutes = self.attacked.as_secs_f64() / 60.0;
        for Bound { counted, at_once, per_minute } in self.bounds {
            let (count, most) =
                (self.counts.get(*counted).copied().unwrap_or_default(), at_once + per_minute * minutes);
            if count as f64 > most {
                missed.push(format!("{count} {counted}, at most {most:.0}"));
            }
        }
        missed
    }

    /// The row of the table.
    pub(crate) fn row(&self, goals: &Goals) -> String {
        let mark = |missed: bool, text: String| if missed { format!("**{text}** ✗") } else { text };
        let success = match self.operations() {
            0 => 0.0,
            operations => 100.0 * (operations - self.failed()) as f64 / operations as f64,
        };
        let mut cells =
            vec![self.name.to_owned(), mark(self.failed() > 0, format!("{:.2}", (success * 100.0).floor() / 100.0))];
        for operation in Operation::ALL {
            let latencies = self.latencies.get(&operation).map_or(&[][..], Vec::as_slice);
            let p99 = percentile(latencies, 99);
            let p99_marked = mark(p99 > goals.of(operation), milliseconds(p99));
            cells.push(match operation {
                Operation::Verify => {
                    let (p50, max) = (percentile(latencies, 50), percentile(latencies, 100));
                    format!("{} / {p99_marked} / {}", milliseconds(p50), milliseconds(max))
                }
                _ => p99_marked,
            });
        }
        cells.extend([
            mark(self.peak > goals.memory, (self.peak >> 20).to_string()),
            (self.after >> 20).to_string(),
            format!("{:.2}", self.processor.as_secs_f64() / self.attacked.as_secs_f64()),
            mebibytes(self.log),
            mebibytes(self.database),
            mark(!self.same_process, if self.same_process { "same" } else { "gone" }.to_owned()),
        ]);
        format!("| {} |", cells.join(" | "))
    }
}

/// Prints the table and a description of each attack. Returns the number of attacks that missed a goal.
pub(crate) fn print(outcomes: &[Outcome], goals: &Goals, after: Duration) -> usize {
    println!(
        "\nGoals: success 100 %; p99 of verify {} ms, of the others {} ms; memory {} MiB; the same process.\n",
        goals.verify.as_millis(),
        goals.others.as_millis(),
        goals.memory >> 20
    );
    let others: Vec<_> = Operation::ALL[1..].iter().map(|operation| format!("{} p99", operation.name())).collect();
    println!(
        "| attack | success % | verify p50 / p99 / max ms | {} | peak MiB | {} s after | cores | log MiB | data MiB | process |",
        others.join(" | "),
        after.as_secs()
    );
    println!("|---|{}", "--:|".repeat(8 + others.len()));
    outcomes.iter().for_each(|outcome| println!("{}", outcome.row(goals)));
    println!();
    let mut missed = 0;
    for outcome in outcomes {
        let counted: Vec<_> = outcome.counts.iter().map(|(what, number)| format!("{what} × {number}")).collect();
        println!(
            "- **{}** ({}), {:.0} s. Attacker: {}.",
            outcome.name,
            outcome.what,
            outcome.measured.as_secs_f64(),
            counted.join(", ")
        );
        for (failure, number) in &outcome.failures {
            println!("  - failed: {failure} × {number}");
        }
        let missed_here = outcome.missed(goals);
        missed += usize::from(!missed_here.is_empty());
        if !missed_here.is_empty() {
            println!("  - MISSED: {}", missed_here.join("; "));
        }
    }
    missed
}

/// The smallest of the sorted latencies that at least `percent` of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
