//! The binary: runs [`gatebird::cli`].

use std::process::ExitCode;

use gatebird::{cli, process};

fn main() -> ExitCode {
    process::run(|| cli::run(std::env::args_os()))
}
