//! Reads the environment and `.env`, and hands over to [`gatebird::cli`].

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;

use gatebird::cli::{self, Environment};
use gatebird::exit::Exit;

fn main() -> ExitCode {
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
