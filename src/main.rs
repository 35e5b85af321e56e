//! Reads the environment and `.env`, and hands over to [`gatebird::cli`].

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;

use gatebird::cli::{self, Environment};
use gatebird::exit::Exit;

fn main() -> ExitCode {
    keep_memory_private();
    let result = environment().and_then(|environment| cli::run(std::env::args_os(), &environment));
    gatebird::logging::flush();
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

/// The environment, over what `.env` in the working folder says. Nothing is written into the environment.
fn environment() -> Result<Environment, Exit> {
    let mut file = HashMap::new();
    match dotenvy::from_path_iter(".env") {
        Ok(lines) => {
            for (number, line) in lines.enumerate() {
                // The error would quote the line, which may hold a secret.
                let (key, value) = line.map_err(|_| {
                    Exit::config(format!(
                        ".env: setting {} cannot be read; write KEY=value, quoted if it has spaces",
                        number + 1
                    ))
                })?;
                file.insert(key, value);
            }
        }
        Err(error) if error.not_found() => {}
        Err(_) => return Err(Exit::config(".env cannot be read")),
    }
    Ok(Environment::new(file))
}
