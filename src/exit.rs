//! Reasons for the process to exit: a line for people and a sysexits status for the service manager.

use std::fmt::{self, Display};

/// A failure that ends the process, with a status from `sysexits.h`. [`run`](crate::run) turns it into the exit status.
#[non_exhaustive]
pub struct Exit {
    /// The exit status, never 0.
    pub code: u8,
    /// What is wrong, and how to fix it.
    pub line: String,
}

impl Exit {
    fn new(code: u8, line: impl Display) -> Exit {
        Exit { code, line: line.to_string() }
    }

    /// 64: the command line is wrong, or names something that does not exist.
    pub fn usage(line: impl Display) -> Exit {
        Exit::new(64, line)
    }

    /// 65: the data is corrupt, or was written by a newer version.
    pub fn data(line: impl Display) -> Exit {
        Exit::new(65, one_line(line))
    }

    /// 69: the database cannot be reached.
    pub fn unavailable(line: impl Display) -> Exit {
        Exit::new(69, one_line(line))
    }

    /// 70: a bug.
    pub fn software(line: impl Display) -> Exit {
        Exit::new(70, one_line(line))
    }

    /// 73: a file is already in use, or cannot be created.
    pub fn cannot_create(line: impl Display) -> Exit {
        Exit::new(73, one_line(line))
    }

    /// 75: the process must be restarted, as service managers do.
    pub fn temporary(line: impl Display) -> Exit {
        Exit::new(75, one_line(line))
    }

    /// 77: a needed right is missing in the database.
    pub fn no_permission(line: impl Display) -> Exit {
        Exit::new(77, one_line(line))
    }

    /// 78: the settings are invalid.
    pub fn config(line: impl Display) -> Exit {
        Exit::new(78, line)
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The same line, for a `main` that returns the error.
impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Exit {}

/// Joins the several lines of a database's error message.
fn one_line(text: impl Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
