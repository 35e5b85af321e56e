//! The wall clock, and the time that really passed.
//!
//! A wall clock may be wrong for a while: at boot, before NTP has set it, or by mistake. Everything that deletes something
//! when its time has come therefore uses the *trusted time* as an upper bound. The trusted time follows the wall clock as
//! long as both advance alike. After a jump of the wall clock, the trusted time advances by a steady clock instead, until
//! the wall clock is right again or has disagreed for [`BELIEVED_AFTER`]. The database keeps the trusted time, so that a
//! start with a wrong clock is noticed as well. Where several nodes share a database, its clock takes the place of the wall
//! clock, so that the wrong clock of one node moves the trusted time of no node.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::App;
use crate::db::trusted_time;
use crate::error::Result;
use crate::token::assertion;
use crate::usage::DAY;

/// Seconds by which two clocks may differ and still agree.
pub(super) const TOLERANCE: i64 = 30;
/// Seconds after which a clock that disagrees is believed, unless tokens live longer.
const BELIEVED_AFTER: i64 = DAY;
/// Seconds between two writes of the trusted time.
const KEPT_EVERY: i64 = 60;
/// Seconds by which the clock may be ahead of the kept time at a start that followed a restart or a crash at once.
pub(super) const MAX_RESTART: i64 = 2 * KEPT_EVERY + TOLERANCE;
const NANOS: u64 = 1_000_000_000;

/// Tells the time. Tests pass one of their own.
pub trait Clock: Send + Sync {
    /// Unix seconds by the wall clock, which may be wrong.
    fn now(&self) -> i64;

    /// Nanoseconds since some moment, which never go back.
    fn steady(&self) -> u64;

    /// What the clock of the database says, given what the database said.
    fn of_database(&self, now: i64) -> i64 {
        now
    }
}

/// The system's clocks.
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

/// Unix seconds by the system's clock, for what runs outside of an [`App`].
pub(crate) fn system_time() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The trusted time of this process.
#[derive(Debug)]
pub(super) struct TrustedTime {
    /// The trusted time at the moment `steady`, in Unix seconds. It advances with the steady clock from there.
    at: i64,
    /// Nanoseconds of the steady clock.
    steady: u64,
    /// What the database kept when this process last looked.
    kept: i64,
    disagreement: Option<Disagreement>,
    /// Seconds after which the clock is believed.
    patience: i64,
}

/// The wall clock, or the database's, disagrees with the trusted time.
#[derive(Clone, Copy, Debug)]
struct Disagreement {
    /// Nanoseconds of the steady clock.
    since: u64,
    /// Seconds by which the clock was ahead since then; where that changed, the least.
    offset: i64,
}

impl TrustedTime {
    /// Goes on from the time that the database kept; without one, or after a restart, from what the clock says.
    pub(super) fn new(kept: i64, clock: i64, steady: u64, longest_life: i64) -> TrustedTime {
        let is_restart = (0..=MAX_RESTART).contains(&(clock - kept));
        let at = if kept == 0 || is_restart { clock } else { kept };
        let patience = BELIEVED_AFTER.max(longest_life);
        let mut time = TrustedTime { at, steady, kept, disagreement: None, patience };
        time.follow(kept, clock, steady);
        time
    }

    /// The trusted time.
    fn at(&self, steady: u64) -> i64 {
        self.at + seconds(steady.saturating_sub(self.steady))
    }

    /// Compares the clock with the time that has passed, and returns the trusted time. `kept` is what the database keeps now.
    fn follow(&mut self, kept: i64, clock: i64, steady: u64) -> i64 {
        // Another node is ahead, or has decided to believe a clock that went back.
        if kept > self.at(steady) || kept < self.kept {
            (self.at, self.steady) = (kept, steady);
        }
        self.kept = kept;
        let expected = self.at(steady);
        let offset = clock - expected;
        match &mut self.disagreement {
            before if offset.abs() <= TOLERANCE => {
                if before.take().is_some() {
                    log::info!("the clock and the time that has passed agree again: {clock}");
                }
                (self.at, self.steady) = (clock, steady);
            }
            Some(known) if known.offset.signum() == offset.signum() => {
                if offset.abs() < known.offset.abs() {
                    known.offset = offset;
                }
                if seconds(steady.saturating_sub(known.since)) >= self.patience {
                    let believed = expected + known.offset;
                    log::warn!("the clock has disagreed for long enough to be believed: {expected} becomes {believed}");
                    (self.at, self.steady) = (believed, steady);
                    self.disagreement = None;
                }
            }
            other => {
                log::warn!(
                    "the clock says {clock}, and by the time that has passed it is {expected}: a clock was set, or time \
                     passed while no server ran; until both agree, or for {} hours, nothing is deleted before {expected} \
                     and what has passed since",
                    self.patience / 3600
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
    at: i64,
    steady: u64,
}

impl Started {
    /// A wall clock that is behind the kept time is wrong. The kept time may be as old as its last write.
    pub(super) fn new(clock: &dyn Clock, kept: i64) -> Started {
        let now = clock.now();
        let at = if now < kept { kept + 2 * KEPT_EVERY } else { now };
        Started { at, steady: clock.steady() }
    }
}

/// The time that a node goes by whose own clock is wrong.
#[derive(Debug)]
pub(super) struct Instead(AtomicI64);

impl Instead {
    /// The wall clock is not known to be wrong.
    const NONE: i64 = i64::MIN;

    pub(super) fn none() -> Instead {
        Instead(AtomicI64::new(Instead::NONE))
    }

    /// Unix seconds by `clock`, or what is used instead of it.
    fn of(&self, clock: &dyn Clock) -> i64 {
        match self.0.load(Ordering::Relaxed) {
            Instead::NONE => clock.now(),
            begin => begin + seconds(clock.steady()),
        }
    }

    /// Sets the time, in Unix seconds, at a moment of the steady clock; `None` is the wall clock's.
    fn set(&self, time: Option<(i64, u64)>) {
        let begin = time.map_or(Instead::NONE, |(at, steady)| at - seconds(steady));
        let before = self.0.swap(begin, Ordering::Relaxed);
        match (before, begin) {
            (Instead::NONE, Instead::NONE) => {}
            (Instead::NONE, _) => log::error!("the clock of this node is wrong; it goes by that of the database"),
            (_, Instead::NONE) => log::info!("the clock of this node is right again"),
            _ => {}
        }
    }
}

impl App {
    /// Unix seconds, for what can be undone: by the wall clock, which may be wrong. A node of several whose own clock is
    /// certainly wrong goes by the trusted time.
    pub fn now(&self) -> i64 {
        self.instead.of(self.clock.as_ref())
    }

    /// Nanoseconds of a clock that never goes back, for meters.
    pub fn steady_now(&self) -> u64 {
        self.clock.steady()
    }

    /// Unix seconds that have passed for certain: for what deletes, or decides for good. It is the wall clock's time, unless
    /// that is ahead of the time that really passed.
    pub fn trusted_now(&self) -> i64 {
        let (now, passed) = (self.now(), self.passed());
        if now - passed > TOLERANCE { passed } else { now }
    }

    /// Seconds by which this node's wall clock is ahead of the trusted time.
    pub(super) fn clock_offset(&self) -> i64 {
        self.clock.now() - self.passed()
    }

    /// Whether [`App::now`] can be relied on.
    pub(super) fn clock_is_right(&self) -> bool {
        (self.now() - self.passed()).abs() <= TOLERANCE
    }

    /// The trusted time.
    fn passed(&self) -> i64 {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).at(self.steady_now())
    }

    /// Unix seconds from which on this process knows every client assertion that was used. An assertion that was used before
    /// the start has expired after some time, whatever the wall clock said.
    pub(crate) fn remembers_since(&self) -> i64 {
        let up = seconds(self.steady_now().saturating_sub(self.started.steady));
        if up > assertion::LONGEST_LIFE + TOLERANCE { i64::MIN } else { self.started.at }
    }

    /// Lets the trusted time follow the clock, and keeps it in the database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) fn keep_time(&self) -> Result<()> {
        let (kept, of_database) =
            self.db.read_now(|conn| Ok((trusted_time::kept(conn)?, trusted_time::of_database(conn)?)))?;
        let clock = of_database.map_or_else(|| self.now(), |now| self.clock.of_database(now));
        let steady = self.steady_now();
        let (at, agreed) = {
            let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
            (time.follow(kept, clock, steady), time.disagreement.is_none())
        };
        // The database and the time that has passed agree against this node's clock.
        let wrong = of_database.is_some() && agreed && (self.clock.now() - at).abs() > TOLERANCE;
        self.instead.set(wrong.then_some((at, steady)));
        if (at - kept).abs() >= KEPT_EVERY {
            self.db.write_now(|conn| Ok(trusted_time::keep(conn, kept, at)?))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use super::*;

    /// A process that follows a clock every 20 seconds.
    struct Process {
        time: TrustedTime,
        /// What the database keeps.
        kept: i64,
        /// Seconds that have passed.
        passed: i64,
    }

    impl Process {
        const START: i64 = 1_000_000;

        fn new(kept: i64, clock: i64) -> Process {
            Process { time: TrustedTime::new(kept, clock, 0, 3600), kept, passed: 0 }
        }

        /// Lets `seconds` pass while the clock is ahead by `offset`, and returns by how much the trusted time is.
        fn pass(&mut self, seconds: i64, offset: i64) -> i64 {
            let end = self.passed + seconds;
            let mut trusted = 0;
            while self.passed < end {
                self.passed = (self.passed + 20).min(end);
                let now = Process::START + self.passed;
                let at = self.time.follow(self.kept, now + offset, self.passed as u64 * NANOS);
                if (at - self.kept).abs() >= KEPT_EVERY {
                    self.kept = at;
                }
                trusted = at - now;
            }
            trusted
        }
    }

    #[test]
    fn the_clock__advances_as_time_passes() {
        let mut process = Process::new(0, Process::START);
        assert_eq!(process.pass(100_000, 0), 0);
        // NTP slews it.
        for offset in [10, 20, 30, 10, -10, -30] {
            assert_eq!(process.pass(20, offset), offset);
        }
    }

    #[test]
    fn the_clock__is_right_after_a_restart() {
        for pause in [0, 34, 100, MAX_RESTART] {
            assert!(Process::new(Process::START - pause, Process::START).time.disagreement.is_none(), "{pause}");
        }
        for pause in [MAX_RESTART + 1, DAY] {
            assert!(Process::new(Process::START - pause, Process::START).time.disagreement.is_some(), "{pause}");
        }
    }

    #[test]
    fn the_clock__jumps_and_comes_back() {
        for jump in [31, 7200, 500 * DAY, -31, -7200, -Process::START] {
            let mut process = Process::new(0, Process::START);
            assert_eq!(process.pass(60, 0), 0);
            assert_eq!(process.pass(DAY - 60, jump), 0, "{jump}");
            assert_eq!(process.pass(20, 0), 0, "{jump}");
            assert_eq!(process.pass(DAY - 60, jump), 0, "{jump}: it counts anew");
            assert_eq!(process.pass(100, jump), jump, "{jump}: it is believed");
        }
    }

    #[test]
    fn the_clock__jumps_again_and_again() {
        let mut process = Process::new(0, Process::START);
        process.pass(DAY - 60, 7200);
        assert_eq!(process.pass(100, 500 * DAY), 7200, "only what was so for a day");
        assert_eq!(process.pass(DAY - 100, 500 * DAY), 7200);
        assert_eq!(process.pass(DAY, 500 * DAY), 500 * DAY);
        assert_eq!(process.pass(60, 0), 500 * DAY);
        assert_eq!(process.pass(DAY, 0), 0, "and back");
    }

    #[test]
    fn a_start__after_a_pause_or_with_a_wrong_clock() {
        for offset in [-5 * DAY, 5 * DAY] {
            let mut process = Process::new(Process::START, Process::START + offset);
            assert_eq!(process.pass(DAY - 60, offset), 0);
            assert_eq!(process.pass(120, offset), offset);
        }
        let mut process = Process::new(Process::START - 20, Process::START);
        assert_eq!(process.pass(20, 0), 0, "a short pause");
    }

    #[test]
    fn another_node__is_ahead_or_believes_a_clock() {
        let mut time = TrustedTime::new(0, Process::START, 0, 3600);
        assert_eq!(time.follow(Process::START + 100, Process::START + 20, 20 * NANOS), Process::START + 100);
        assert_eq!(time.follow(Process::START + 100, Process::START + 40, 40 * NANOS), Process::START + 120);
        assert_eq!(time.follow(Process::START + 60, Process::START + 60, 60 * NANOS), Process::START + 60);
    }
}
