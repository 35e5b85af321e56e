//! The moment at which a connection is cut off. Moving it costs no timer.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::config::Timeouts;

/// How often a connection that waits for nothing looks at its deadline.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing that takes a limited time.
    Nothing,
    /// The client to begin a request.
    Idle,
    /// The client to send the rest of a head.
    Head,
    /// The client to send the rest of a body.
    Body,
    /// The client to read its answers.
    Written,
}

/// A wait and its end. The timer is moved only when it has fired, or when the new end is before it.
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

    /// Waits for that from now on.
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

    /// Whether the time is over. Otherwise the task is woken when it is.
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
