//! Imports of the users and domains of a NodeBird API, and of domains in bulk.
//!
//! A file is imported in one transaction. Rows that cannot be imported are reported. A second import of the same file
//! changes nothing.

mod bulk;
mod export;
mod nodebird;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::operator::{Operator, failed};
use super::{Output, print_changed};
use crate::exit::Exit;
use crate::plan::Plan;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[derive(Subcommand)]
pub(super) enum ImportCommand {
    /// Import the users and domains of a NodeBird API with their passwords and client secrets. FILE is the output of
    /// deploy/nodebird-export.sql.
    Nodebird {
        file: PathBuf,
        /// A name for the other system. Several systems need different names.
        #[arg(long, default_value = "nodebird")]
        source: String,
    },
    /// Register many domains. FILE is CSV with the columns username,host,type and, for existing secrets, clientSecret.
    Domains {
        file: PathBuf,
        /// Create missing users, without a password.
        #[arg(long)]
        make_users: bool,
        /// The file to create for new client secrets.
        #[arg(long)]
        secrets: Option<PathBuf>,
    },
}

impl Operator {
    pub(super) fn import(&self, command: ImportCommand) -> Result<(), Exit> {
        match command {
            ImportCommand::Nodebird { file, source } => nodebird::import(self, &file, &source),
            ImportCommand::Domains { file, make_users, secrets } => {
                bulk::import(self, &file, make_users, secrets.as_deref())
            }
        }
    }
}

/// Opens a file and skips its byte order mark, which Windows programs write.
fn open(path: &Path) -> Result<BufReader<File>, Exit> {
    let open = || {
        let mut file = BufReader::new(File::open(path)?);
        if file.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        Ok(file)
    };
    open().map_err(|error: io::Error| Exit::usage(format!("cannot read {}: {error}", path.display())))
}

/// Messages about rows that were skipped or changed. They are printed after the commit.
struct Report {
    out: Output,
    lines: String,
    skipped: u64,
}

impl Report {
    fn new(out: Output) -> Report {
        Report { out, lines: String::new(), skipped: 0 }
    }

    /// Reports a row that is not imported.
    fn skip(&mut self, place: &str, number: u64, why: &str) {
        self.skipped += 1;
        self.add("skipped", place, number, why);
    }

    /// Reports an already imported row whose plan differs.
    fn compare(&mut self, place: &str, number: u64, here: Plan, there: Plan) {
        if here != there {
            let what = format!(
                "it was imported before and stays {}, although the file says {}",
                here.as_str(),
                there.as_str()
            );
            self.add("different", place, number, &what);
        }
    }

    /// Reports a row that is imported with changes.
    fn note(&mut self, place: &str, number: u64, what: &str) {
        self.add("changed", place, number, what);
    }

    fn add(&mut self, outcome: &str, place: &str, number: u64, why: &str) {
        let line = if self.out.json {
            json!({ "outcome": outcome, place: number, "reason": why }).to_string()
        } else {
            // Control characters of the file must not reach the terminal.
            format!("{outcome} {place} {number}: {}", why.replace(char::is_control, "?"))
        };
        self.lines.push_str(&line);
        self.lines.push('\n');
    }

    /// Prints the messages, then the sums.
    ///
    /// # Errors
    /// Exit status 65 if rows were skipped and no row of the file was imported, now or before.
    fn print(mut self, sums: &Value, line: &str, taken: u64) -> Result<(), Exit> {
        self.lines.push_str(&if self.out.json { sums.to_string() } else { line.to_owned() });
        print_changed(&self.lines)?;
        match (taken, self.skipped) {
            (0, 1..) => Err(Exit::data(format!("none of the {} rows could be imported", self.skipped))),
            _ => Ok(()),
        }
    }
}
