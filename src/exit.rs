//! Why the process ends: one line for people and a sysexits code for the service manager.

use std::fmt::{self, Display};

/// A reason to end; see `sysexits.h`. Anything with status 0 is no `Exit`.
pub struct Exit {
    /// The process's exit status.
    pub code: u8,
    /// What is wrong and how to mend it.
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

    /// 65: the data is corrupt, or of a newer version.
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

    /// 73: the file is already in use, or cannot be made.
    pub fn cannot_create(line: impl Display) -> Exit {
        Exit::new(73, one_line(line))
    }

    /// 75: the process must be started again, as supervisors do.
    pub fn temporary(line: impl Display) -> Exit {
        Exit::new(75, one_line(line))
    }

    /// 77: the database refuses a right that is needed.
    pub fn no_permission(line: impl Display) -> Exit {
        Exit::new(77, one_line(line))
    }

    /// 78: the settings cannot be used.
    pub fn config(line: impl Display) -> Exit {
        Exit::new(78, line)
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The same line: what a `main` that returns the error shows.
impl fmt::Debug for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Exit {}

/// Databases tell their troubles in several lines.
fn one_line(text: impl Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
