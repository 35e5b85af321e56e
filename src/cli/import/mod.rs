//! What moves in from elsewhere: the users and domains of a NodeBird API, or domains by the million. All of a file or nothing
//! of it; what cannot be taken is reported, and the same file again changes nothing.

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
    /// Take over the users and domains of a NodeBird API, which keep their passwords and client secrets. FILE is what
    /// deploy/nodebird-export.sql writes.
    Nodebird {
        file: PathBuf,
        /// What the other system is called here; another name for each, where there are several.
        #[arg(long, default_value = "nodebird")]
        source: String,
    },
    /// Register many domains. FILE is CSV: username,host,type and, if they have secrets already, clientSecret.
    Domains {
        file: PathBuf,
        /// Make users that are missing, without a password.
        #[arg(long)]
        make_users: bool,
        /// Where to write the client secrets that are made; a file that is not there yet.
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

/// Opens a file to be read after its byte order mark, which programs of Windows write.
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

/// What became of the rows that were not simply taken. Kept until the end: nothing has happened before the commit.
struct Report {
    out: Output,
    lines: String,
    skipped: u64,
}

impl Report {
    fn new(out: Output) -> Report {
        Report { out, lines: String::new(), skipped: 0 }
    }

    /// A row that stays behind.
    fn skip(&mut self, place: &str, number: u64, why: &str) {
        self.skipped += 1;
        self.tell("skipped", place, number, why);
    }

    /// A row that came in before, and whose plan is another one here.
    fn compare(&mut self, place: &str, number: u64, here: Plan, there: Plan) {
        if here != there {
            let what =
                format!("it is here already as {} and stays so; the file says {}", here.as_str(), there.as_str());
            self.tell("different", place, number, &what);
        }
    }

    /// A row that comes in, but not as it was.
    fn note(&mut self, place: &str, number: u64, what: &str) {
        self.tell("changed", place, number, what);
    }

    fn tell(&mut self, outcome: &str, place: &str, number: u64, why: &str) {
        let line = match self.out.json {
            true => json!({ "outcome": outcome, place: number, "reason": why }).to_string(),
            // What stands in a file may not act on a terminal.
            false => format!("{outcome} {place} {number}: {}", why.replace(char::is_control, "?")),
        };
        self.lines.push_str(&line);
        self.lines.push('\n');
    }

    /// Prints it all, with the sums at the end.
    ///
    /// # Errors
    /// 65 when rows were skipped and none of the file was taken, now or before.
    fn print(mut self, sums: &Value, line: &str, taken: u64) -> Result<(), Exit> {
        self.lines.push_str(&match self.out.json {
            true => sums.to_string(),
            false => line.to_owned(),
        });
        print_changed(&self.lines)?;
        match (taken, self.skipped) {
            (0, 1..) => Err(Exit::data(format!("none of the {} rows could be taken", self.skipped))),
            _ => Ok(()),
        }
    }
}
