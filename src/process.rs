//! What a program of Gatebird does around its work: for the binary, and for a server of your own.

use std::io::Write;
use std::process::ExitCode;

use crate::exit::Exit;
use crate::logging;

/// Runs the work of a whole program: keeps its memory private, writes the last lines of the logs, and tells why it ends, with
/// the exit status.
pub fn run(work: impl FnOnce() -> Result<(), Exit>) -> ExitCode {
    keep_memory_private();
    let result = work();
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, line }) => {
            // Whoever listened may have gone away; the code still tells.
            let _ = writeln!(std::io::stderr(), "{line}");
            ExitCode::from(code)
        }
    }
}

/// No core dump is written of this process, and others of the same user read neither its memory nor its environment:
/// keys and passwords stand in both. Without the kernel's leave to be that careful, it runs all the same.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
