//! The frame of a program: for the `gatebird` binary, and for servers that embed the library.

use std::io::Write;
use std::process::ExitCode;

use crate::exit::Exit;
use crate::logging;

/// Runs a whole program around [`server::serve`](crate::server::serve). It keeps the memory of the process private, flushes the
/// logs, prints the reason of a failure to standard error, and returns the exit status.
pub fn run(work: impl FnOnce() -> Result<(), Exit>) -> ExitCode {
    keep_memory_private();
    let result = work();
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, line }) => {
            // If standard error is closed, the exit status still tells the reason.
            let _ = writeln!(std::io::stderr(), "{line}");
            ExitCode::from(code)
        }
    }
}

/// Prevents core dumps, and access to memory and environment by other processes of the same user: both hold keys and
/// passwords. The process also runs if the kernel refuses this.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
