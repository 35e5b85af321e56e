//! Samples the server's resources during an attack, and kills a server that takes too much memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::server::Server;

/// A server with more resident memory is killed before it takes the whole machine.
const MEMORY_LIMIT: u64 = 3 << 30;
const SAMPLING_INTERVAL: Duration = Duration::from_millis(20);

/// The samples of one attack.
#[derive(Default)]
pub(crate) struct Samples {
    /// The most resident memory, in bytes.
    pub(crate) peak: u64,
    /// The server took more than [`MEMORY_LIMIT`] bytes.
    pub(crate) ended: bool,
}

/// Watches the server on a thread of its own until `over`.
pub(crate) fn watch<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    server: &'scope Server,
    over: &'scope AtomicBool,
) -> ScopedJoinHandle<'scope, Samples> {
    scope.spawn(|| {
        let mut seen = Samples::default();
        while !over.load(Ordering::Relaxed) {
            let resident = server.resident().unwrap_or_default();
            seen.peak = seen.peak.max(resident);
            if resident > MEMORY_LIMIT && !seen.ended {
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

/// Whether the process still runs. An ended process stays a zombie until its handle is dropped.
pub(crate) fn is_running(server: &Server) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
