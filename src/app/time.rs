//! The wall clock and the trusted time.
//!
//! A wall clock may be wrong for a while: at boot, before NTP has set it, or by mistake. Everything that deletes
//! expired data therefore uses the *trusted time* as an upper bound. The trusted time follows the wall clock while both
//! advance alike. After a jump of the wall clock, the trusted time advances by a steady clock instead, until the wall
//! clock is right again or has disagreed for [`BELIEVED_AFTER`]. The database stores the trusted time, so that a start
//! with a wrong clock is detected too. With PostgreSQL, the clock of the database replaces the wall clock, so that one
//! node's wrong clock does not move the trusted time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::App;
use crate::db::trusted_time;
use crate::error::Result;
use crate::token::assertion;
use crate::usage::DAY;

/// Seconds by which two clocks may differ and count as equal.
pub(super) const TOLERANCE: i64 = 30;
/// Seconds of disagreement after which the clock is believed, unless tokens live longer.
const BELIEVED_AFTER: i64 = DAY;
/// Seconds between two writes of the trusted time.
const STORE_INTERVAL: i64 = 60;
/// Seconds by which the clock may be ahead of the stored time at a start, and count as right: a restart takes this
/// long.
pub(super) const MAX_RESTART: i64 = 2 * STORE_INTERVAL + TOLERANCE;
const NANOS: u64 = 1_000_000_000;

/// A source of time. Tests pass their own.
pub trait Clock: Send + Sync {
    /// The wall clock in Unix seconds, which may be wrong.
    fn now(&self) -> i64;

    /// A monotonic clock, in nanoseconds since an arbitrary moment.
    fn steady(&self) -> u64;

    /// The clock of the database in Unix seconds, given the time that the database returned. Tests override it.
    fn of_database(&self, now: i64) -> i64 {
        now
    }
}

/// The clocks of the operating system.
pub(super) struct SystemClock {
    pub(super) started: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        system_time()
    }

    fn steady(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

/// The system's wall clock in Unix seconds, for code that runs without an [`App`].
pub(crate) fn system_time() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The trusted time of this process.
#[derive(Debug)]
pub(super) struct TrustedTime {
    /// The trusted time at the moment `steady`, in Unix seconds. From there it advances with the steady clock.
    at: i64,
    /// Nanoseconds of the steady clock.
    steady: u64,
    /// The time that the database stored when this process last read it.
    stored: i64,
    disagreement: Option<Disagreement>,
    /// Seconds of disagreement after which the clock is believed.
    believed_after: i64,
}

/// A disagreement of the clock (the wall clock or the database's) with the trusted time.
#[derive(Clone, Copy, Debug)]
struct Disagreement {
    /// Its start, in nanoseconds of the steady clock.
    since: u64,
    /// The smallest number of seconds by which the clock was ahead since then; negative if it was behind.
    offset: i64,
}

impl TrustedTime {
    /// Continues from the time that the database stored. Without a stored time (0), or after a restart, it begins with
    /// the clock.
    pub(super) fn new(stored: i64, clock: i64, steady: u64, max_lifetime: i64) -> TrustedTime {
        let is_restart = (0..=MAX_RESTART).contains(&(clock - stored));
        let at = if stored == 0 || is_restart { clock } else { stored };
        let believed_after = BELIEVED_AFTER.max(max_lifetime);
        let mut time = TrustedTime { at, steady, stored, disagreement: None, believed_after };
        time.follow(stored, clock, steady);
        time
    }

    /// The trusted time at a moment of the steady clock, in Unix seconds.
    fn at(&self, steady: u64) -> i64 {
        self.at + seconds(steady.saturating_sub(self.steady))
    }

    /// Compares the clock with the trusted time, and returns the new trusted time. `stored` is the time in the
    /// database.
    fn follow(&mut self, stored: i64, clock: i64, steady: u64) -> i64 {
        // Another node is ahead, or has begun to believe a clock that went back.
        if stored > self.at(steady) || stored < self.stored {
            (self.at, self.steady) = (stored, steady);
        }
        self.stored = stored;
        let expected = self.at(steady);
        let offset = clock - expected;
        match &mut self.disagreement {
            before if offset.abs() <= TOLERANCE => {
                if before.take().is_some() {
                    log::info!("the clock agrees with the trusted time again: {clock}");
                }
                (self.at, self.steady) = (clock, steady);
            }
            Some(known) if known.offset.signum() == offset.signum() => {
                if offset.abs() < known.offset.abs() {
                    known.offset = offset;
                }
                if seconds(steady.saturating_sub(known.since)) >= self.believed_after {
                    let believed = expected + known.offset;
                    log::warn!(
                        "the clock has disagreed for long enough: the trusted time {expected} becomes {believed}"
                    );
                    (self.at, self.steady) = (believed, steady);
                    self.disagreement = None;
                }
            }
            other => {
                log::warn!(
                    "the clock ({clock}) disagrees with the trusted time ({expected}): the clock was set, or no server \
                     ran for a while; until both agree, or for {} hours, data is deleted by the trusted time only",
                    self.believed_after / 3600
                );
                *other = Some(Disagreement { since: steady, offset });
            }
        }
        self.at(steady)
    }
}

fn seconds(nanos: u64) -> i64 {
    (nanos / NANOS) as i64
}

/// The start of this process, by both clocks.
#[derive(Debug)]
pub(super) struct Started {
    /// Unix seconds.
    at: i64,
    /// Nanoseconds of the steady clock.
    steady: u64,
}

impl Started {
    /// A wall clock behind the stored time is wrong. The start is then at most two store intervals after the stored
    /// time.
    pub(super) fn new(clock: &dyn Clock, stored: i64) -> Started {
        let now = clock.now();
        let at = if now < stored { stored + 2 * STORE_INTERVAL } else { now };
        Started { at, steady: clock.steady() }
    }
}

/// The time that a node uses while its own wall clock is wrong.
#[derive(Debug)]
pub(super) struct SubstituteTime(AtomicI64);

impl SubstituteTime {
    /// There is no substitute: the node uses its wall clock.
    const NONE: i64 = i64::MIN;

    pub(super) fn none() -> SubstituteTime {
        SubstituteTime(AtomicI64::new(SubstituteTime::NONE))
    }

    /// Unix seconds: the substitute time, or the wall clock.
    fn now(&self, clock: &dyn Clock) -> i64 {
        match self.0.load(Ordering::Relaxed) {
            SubstituteTime::NONE => clock.now(),
            begin => begin + seconds(clock.steady()),
        }
    }

    /// Sets the substitute time: Unix seconds at a moment of the steady clock. `None` returns to the wall clock.
    fn set(&self, time: Option<(i64, u64)>) {
        let begin = time.map_or(SubstituteTime::NONE, |(at, steady)| at - seconds(steady));
        let before = self.0.swap(begin, Ordering::Relaxed);
        match (before, begin) {
            (SubstituteTime::NONE, SubstituteTime::NONE) => {}
            (SubstituteTime::NONE, _) => {
                log::error!("the clock of this node is wrong; this node uses the clock of the database")
            }
            (_, SubstituteTime::NONE) => log::info!("the clock of this node is right again"),
            _ => {}
        }
    }
}

#[doc(hidden)]
impl App {
    /// The wall clock in Unix seconds, for decisions that can be undone. It may be wrong. With PostgreSQL, a node uses
    /// the trusted time instead while its own clock is known to be wrong.
    pub fn now(&self) -> i64 {
        self.substitute.now(self.clock.as_ref())
    }

    /// A monotonic clock in nanoseconds, for meters.
    pub fn steady_now(&self) -> u64 {
        self.clock.steady()
    }

    /// Unix seconds for deletions and other irreversible decisions: the wall clock, or the trusted time if the wall
    /// clock is ahead of it.
    pub fn trusted_now(&self) -> i64 {
        let (now, trusted) = (self.now(), self.trusted_time());
        if now - trusted > TOLERANCE { trusted } else { now }
    }

    /// Seconds by which this node's wall clock is ahead of the trusted time.
    pub(super) fn clock_offset(&self) -> i64 {
        self.clock.now() - self.trusted_time()
    }

    /// Whether [`App::now`] agrees with the trusted time.
    pub(super) fn clock_is_right(&self) -> bool {
        (self.now() - self.trusted_time()).abs() <= TOLERANCE
    }

    fn trusted_time(&self) -> i64 {
        self.time.lock().at(self.steady_now())
    }

    /// Unix seconds since when this process knows every used client assertion. Once the process has run longer than an
    /// assertion lives, all assertions used before its start have expired, and this is `i64::MIN`.
    pub(crate) fn remembers_since(&self) -> i64 {
        let up = seconds(self.steady_now().saturating_sub(self.started.steady));
        if up > assertion::MAX_LIFETIME + TOLERANCE { i64::MIN } else { self.started.at }
    }

    /// Updates the trusted time, and stores it in the database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) fn update_trusted_time(&self) -> Result<()> {
        let (stored, of_database) = self.db.read_now(|conn| Ok(trusted_time::read(conn)?))?;
        let clock = of_database.map_or_else(|| self.now(), |now| self.clock.of_database(now));
        let steady = self.steady_now();
        let (at, agreed) = {
            let mut time = self.time.lock();
            (time.follow(stored, clock, steady), time.disagreement.is_none())
        };
        // The clock of the database agrees with the trusted time, but this node's clock does not.
        let wrong = of_database.is_some() && agreed && (self.clock.now() - at).abs() > TOLERANCE;
        self.substitute.set(wrong.then_some((at, steady)));
        if (at - stored).abs() >= STORE_INTERVAL {
            self.db.write_now(|conn| Ok(trusted_time::store(conn, stored, at)?))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    /// A process that reads a clock every 20 seconds.
    struct Process {
        time: TrustedTime,
        /// The time that the database stores.
        stored: i64,
        /// Seconds since the start.
        passed: i64,
    }

    impl Process {
        const START: i64 = 1_000_000;

        fn new(stored: i64, clock: i64) -> Process {
            Process { time: TrustedTime::new(stored, clock, 0, 3600), stored, passed: 0 }
        }

        /// Lets `seconds` pass while the clock is ahead by `offset`, and returns by how much the trusted time is ahead.
        fn pass(&mut self, seconds: i64, offset: i64) -> i64 {
            let end = self.passed + seconds;
            let mut trusted = 0;
            while self.passed < end {
                self.passed = (self.passed + 20).min(end);
                let now = Process::START + self.passed;
                let at = self.time.follow(self.stored, now + offset, self.passed as u64 * NANOS);
                if (at - self.stored).abs() >= STORE_INTERVAL {
                    self.stored = at;
                }
                trusted = at - now;
            }
            trusted
        }
    }

    #[test]
    fn trusted_time__clock_advances_steadily() {
        let mut process = Process::new(0, Process::START);
        assert_eq!(process.pass(100_000, 0), 0);
        // NTP slews the clock.
        for offset in [10, 20, 30, 10, -10, -30] {
            assert_eq!(process.pass(20, offset), offset);
        }
    }

    #[test]
    fn trusted_time__restart() {
        for pause in [0, 34, 100, MAX_RESTART] {
            assert!(Process::new(Process::START - pause, Process::START).time.disagreement.is_none(), "{pause}");
        }
        for pause in [MAX_RESTART + 1, DAY] {
            assert!(Process::new(Process::START - pause, Process::START).time.disagreement.is_some(), "{pause}");
        }
    }

    #[test]
    fn trusted_time__clock_jumps_and_comes_back() {
        for jump in [31, 7200, 500 * DAY, -31, -7200, -Process::START] {
            let mut process = Process::new(0, Process::START);
            assert_eq!(process.pass(60, 0), 0);
            assert_eq!(process.pass(DAY - 60, jump), 0, "{jump}");
            assert_eq!(process.pass(20, 0), 0, "{jump}");
            assert_eq!(process.pass(DAY - 60, jump), 0, "{jump}: the time of disagreement begins again");
            assert_eq!(process.pass(100, jump), jump, "{jump}: the clock is believed");
        }
    }

    #[test]
    fn trusted_time__clock_jumps_repeatedly() {
        let mut process = Process::new(0, Process::START);
        process.pass(DAY - 60, 7200);
        assert_eq!(process.pass(100, 500 * DAY), 7200, "only the offset of the whole day is believed");
        assert_eq!(process.pass(DAY - 100, 500 * DAY), 7200);
        assert_eq!(process.pass(DAY, 500 * DAY), 500 * DAY);
        assert_eq!(process.pass(60, 0), 500 * DAY);
        assert_eq!(process.pass(DAY, 0), 0, "and back");
    }

    #[test]
    fn trusted_time__start_after_a_pause_or_with_a_wrong_clock() {
        for offset in [-5 * DAY, 5 * DAY] {
            let mut process = Process::new(Process::START, Process::START + offset);
            assert_eq!(process.pass(DAY - 60, offset), 0);
            assert_eq!(process.pass(120, offset), offset);
        }
        let mut process = Process::new(Process::START - 20, Process::START);
        assert_eq!(process.pass(20, 0), 0, "a short pause");
    }

    #[test]
    fn trusted_time__another_node_is_ahead_or_believes_a_clock() {
        let mut time = TrustedTime::new(0, Process::START, 0, 3600);
        assert_eq!(time.follow(Process::START + 100, Process::START + 20, 20 * NANOS), Process::START + 100);
        assert_eq!(time.follow(Process::START + 100, Process::START + 40, 40 * NANOS), Process::START + 120);
        assert_eq!(time.follow(Process::START + 60, Process::START + 60, 60 * NANOS), Process::START + 60);
    }
}
