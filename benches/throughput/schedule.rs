//! The order of requests, and which answers count.

use std::time::{Duration, Instant};

/// Which requests are sent, and for how long.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Each request once, in order.
    Each,
    /// Requests chosen uniformly at random; answers count from the end of the warm-up on.
    For { warm_up: Duration, measure: Duration, seed: u64 },
    /// That many requests chosen uniformly at random, or fewer if the time ends before.
    Count { count: u64, limit: Duration },
}

/// Chooses requests until the mode's end.
pub(crate) struct Schedule<'a> {
    mode: Mode,
    requests: &'a [Vec<u8>],
    issued: u64,
    random: u64,
    /// Answers before this moment are warm-up.
    from: Instant,
    /// No request is sent after this moment.
    until: Option<Instant>,
}

impl<'a> Schedule<'a> {
    /// Starts the clock.
    pub(crate) fn new(mode: Mode, requests: &'a [Vec<u8>]) -> Self {
        let now = Instant::now();
        let (from, until, seed) = match mode {
            Mode::Each => (now, None, 0),
            Mode::For { warm_up, measure, seed } => (now + warm_up, Some(now + warm_up + measure), seed),
            Mode::Count { limit, .. } => (now, Some(now + limit), 0),
        };
        let random = 0x9e37_79b9_7f4a_7c15 ^ seed;
        Self { mode, requests, issued: 0, random, from, until }
    }

    /// The next request with its index; `None` at the end.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(usize, &'a [u8])> {
        let over = match self.mode {
            Mode::Each => self.issued >= self.requests.len() as u64,
            Mode::For { .. } => false,
            Mode::Count { count, .. } => self.issued >= count,
        };
        if over || self.requests.is_empty() || self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let index = match self.mode {
            Mode::Each => self.issued as usize,
            Mode::For { .. } | Mode::Count { .. } => self.draw(),
        };
        self.issued += 1;
        Some((index, self.requests.get(index)?))
    }

    /// A uniformly distributed index (xorshift64*).
    fn draw(&mut self) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(bits) * self.requests.len() as u128) >> 64) as usize
    }

    /// Whether an answer at this moment is part of the measurement.
    pub(crate) fn counts(&self, at: Instant) -> bool {
        at >= self.from && (matches!(self.mode, Mode::Count { .. }) || self.until.is_none_or(|until| at < until))
    }
}
