//! The witness: a file beside the SQLite file of a server that shows at the next start whether the database was
//! restored or copied.
//!
//! At each checkpoint, which moves the write-ahead log into the file, the server writes a new random mark to both the
//! database and the witness. The mark identifies the state of the file that a log belongs to:
//! - A log belongs to another file if the file beside it lacks the mark of the witness. It is not replayed.
//! - A database was restored or copied if it lacks the mark, or is behind the position in the witness.
//! - A witness is a copy if its creation time differs from the one recorded in it.
//!
//! The mark is `user_version` in the header of the file. Programs that write through SQLite keep it and never lower the
//! counters of the header.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::id::Stamp;

/// Counters of a database that only rise. A lower value means an earlier state of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The counter of the directory's tables.
    pub(super) revision: i64,
    /// The number of the last row of the audit log, which records changes of other tables too.
    pub(super) audit: i64,
}

impl Position {
    fn is_behind(self, other: Position) -> bool {
        self.revision < other.revision || self.audit < other.audit
    }
}

/// A random number, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark(i32);

impl Mark {
    pub(super) fn random() -> Mark {
        Mark((Stamp::random().as_number() % i64::from(i32::MAX)) as i32 + 1)
    }

    /// Returns the mark in `user_version`. It is zero until a server has used the database.
    pub(super) fn of_user_version(version: i32) -> Option<Mark> {
        (version != 0).then_some(Mark(version))
    }

    pub(super) fn user_version(self) -> i32 {
        self.0
    }
}

/// The header of the database file itself, without the changes in its write-ahead log.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) mark: Option<Mark>,
    /// The file change counter. SQLite never lowers it, but a backup starts again from 1.
    changes: u32,
    /// The schema cookie. The same applies to it.
    schema: u32,
}

impl Header {
    pub(super) fn read(file: &File) -> io::Result<Header> {
        let mut bytes = [0; 100];
        file.read_exact_at(&mut bytes, 0)?;
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Ok(Header { changes: number(24), schema: number(40), mark: Mark::of_user_version(number(60) as i32) })
    }

    fn is_behind(self, other: Header) -> bool {
        self.changes < other.changes || self.schema < other.schema
    }
}

/// The state of the file as the server last knew it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Witness {
    pub(super) mark: Mark,
    /// The mark of a checkpoint that has begun and not ended.
    pub(super) next: Option<Mark>,
    /// The header after the last checkpoint.
    pub(super) header: Header,
    pub(super) position: Position,
    pub(super) inode: u64,
    /// Modification time of the file, in nanoseconds; `None` during a checkpoint.
    pub(super) modified: Option<i128>,
    /// Whether the server shut down cleanly, so that it left no log.
    pub(super) ended: bool,
    /// Creation time of the witness itself, in nanoseconds; `None` if the file system does not record it.
    pub(super) created: Option<u128>,
}

impl Witness {
    /// Reads the witness of a database file; `None` if it is missing or unreadable.
    pub(super) fn read(file: &Path) -> Option<Witness> {
        serde_json::from_slice(&fs::read(beside(file, "witness")).ok()?).ok()
    }

    /// Returns whether the witness on disk is no copy.
    pub(super) fn is_original(&self, file: &Path) -> bool {
        fs::metadata(beside(file, "witness")).is_ok_and(|metadata| created(&metadata) == self.created)
    }

    /// Replaces the witness by a rename, so that a crash leaves either the former or this one.
    pub(super) fn write(&mut self, file: &Path, durably: bool) -> io::Result<()> {
        let (path, unfinished) = (beside(file, "witness"), beside(file, "witness.new"));
        drop(fs::remove_file(&unfinished));
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        self.created = created(&file.metadata()?);
        file.write_all(&serde_json::to_vec(self)?)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&unfinished, path)
    }

    /// Returns whether `file` is the server's file, whatever log is beside it.
    pub(super) fn is_of(&self, file: &File) -> bool {
        Header::read(file)
            .is_ok_and(|header| header.mark.is_some_and(|mark| self.has_mark(mark)) && !header.is_behind(self.header))
    }

    pub(super) fn has_mark(&self, mark: Mark) -> bool {
        mark == self.mark || Some(mark) == self.next
    }
}

/// The path of the database file with one more extension.
pub(super) fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_added_extension(extension)
}

pub(super) fn created(metadata: &Metadata) -> Option<u128> {
    Some(metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}

pub(super) fn modified(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// Change time: when the content, the name or another property of the file last changed, in nanoseconds.
pub(super) fn changed(metadata: &Metadata) -> i128 {
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

pub(super) fn is_restored(file: &Path, witness: Option<Witness>, mark: Option<Mark>, position: Position) -> bool {
    match (witness, mark) {
        // No server that writes witnesses has used the database.
        (None, None) => false,
        (Some(witness), Some(mark)) => {
            !witness.has_mark(mark) || position.is_behind(witness.position) || !witness.is_original(file)
        }
        _ => true,
    }
}
