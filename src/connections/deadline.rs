//! The deadline of a connection. Moving it later does not touch the timer.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::config::Timeouts;

/// How often the timer of a connection without a deadline fires.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing with a deadline.
    Nothing,
    /// The client must begin a request.
    Idle,
    /// The client must send the rest of a head.
    Head,
    /// The client must send the rest of a body.
    Body,
    /// The client must read its responses.
    Written,
}

/// What a connection waits for, and until when. The timer is reset only when it has fired, or to an earlier moment.
#[derive(Debug)]
pub(super) struct Deadline {
    timeouts: Timeouts,
    wait: Wait,
    end: Instant,
    timer: Pin<Box<Sleep>>,
    /// The timer will wake the task of this connection.
    is_registered: bool,
}

impl Deadline {
    pub(super) fn new(timeouts: Timeouts, wait: Wait) -> Deadline {
        let mut deadline = Deadline {
            timeouts,
            wait: Wait::Nothing,
            end: Instant::now(),
            timer: Box::pin(sleep(CHECK_INTERVAL)),
            is_registered: false,
        };
        deadline.begin(wait);
        deadline
    }

    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    /// Begins a wait, with its timeout.
    pub(super) fn begin(&mut self, wait: Wait) {
        self.wait = wait;
        let timeout = match wait {
            Wait::Nothing => return,
            Wait::Idle => self.timeouts.idle,
            Wait::Head => self.timeouts.head,
            Wait::Body => self.timeouts.body,
            Wait::Written => self.timeouts.written,
        };
        self.end = Instant::now() + timeout;
        if self.end < self.timer.deadline() {
            self.timer.as_mut().reset(self.end);
            self.is_registered = false;
        }
    }

    /// Whether the deadline has passed. If not, the task will be woken when it passes.
    pub(super) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        while !self.is_registered || self.timer.is_elapsed() {
            if self.timer.as_mut().poll(context).is_pending() {
                self.is_registered = true;
                return false;
            }
            let now = Instant::now();
            if self.wait != Wait::Nothing && self.end <= now {
                return true;
            }
            let next = if self.wait == Wait::Nothing { now + CHECK_INTERVAL } else { self.end };
            self.timer.as_mut().reset(next);
        }
        false
    }
}
