//! What the kernel says of the server while it is attacked, and the end of one that takes too much memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;

/// A server with more resident memory is ended: it would take the whole machine.
const DEADLY: u64 = 3 << 30;
const SAMPLING_INTERVAL: Duration = Duration::from_millis(20);

/// What was seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// The most resident memory, in bytes.
    pub(crate) peak: u64,
    /// The server took more than [`DEADLY`] bytes.
    pub(crate) ended: bool,
}

/// Watches the server on a thread of its own until `over`.
pub(crate) fn watch<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    server: &'scope Server,
    over: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, Seen> {
    scope.spawn(|| {
        let mut seen = Seen::default();
        while !over.load(Ordering::Relaxed) {
            let resident = server.resident().unwrap_or_default();
            seen.peak = seen.peak.max(resident);
            if resident > DEADLY && !seen.ended {
                seen.ended = true;
                if let Some(id) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            thread::sleep(SAMPLING_INTERVAL);
        }
        seen.peak = seen.peak.max(server.memory("VmHWM:").unwrap_or_default());
        seen
    })
}

/// Whether the process still runs. One that ended stays a zombie until its handle is dropped.
pub(crate) fn is_running(server: &Server) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
