//! The witness beside the SQLite file of a server, by which a start tells a restored or copied file from its own.
//!
//! With each checkpoint, which moves the write-ahead log into the file, the server writes a new random mark to both the
//! database and the witness. So the mark says which state of which file the log belongs to:
//! - A log beside a file that does not carry the mark of the witness was written for another file, and is not replayed.
//! - A database that does not carry that mark, or is behind what the witness has seen, was restored or copied.
//! - A witness that is itself a copy is recognized by the time of its creation, which it contains.
//!
//! The mark is the `user_version` in the header of the file. Whatever other programs do to the database by SQLite, they keep
//! the mark and its place, and never lower the counters of the header.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::id::Stamp;

/// The counters of a database that only ever rise: if they are lower than before, the database is an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of the directory's tables.
    pub(super) revision: i64,
    /// The last row of the audit log, which other changes leave.
    pub(super) audit: i64,
}

impl Position {
    fn is_behind(self, other: Position) -> bool {
        self.revision < other.revision || self.audit < other.audit
    }
}

/// A random number that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark(i32);

impl Mark {
    pub(super) fn random() -> Mark {
        Mark((Stamp::random().as_number() % i64::from(i32::MAX)) as i32 + 1)
    }

    /// The mark with that `user_version`, which is zero until a server has used the database.
    pub(super) fn of_user_version(version: i32) -> Option<Mark> {
        (version != 0).then_some(Mark(version))
    }

    pub(super) fn user_version(self) -> i32 {
        self.0
    }
}

/// What the file itself contains at its beginning, whatever its log contains.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) mark: Option<Mark>,
    /// How often this page was written. SQLite never lowers it, but a backup starts again from 1.
    changes: u32,
    /// How often the schema was changed: the same is true of it.
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

/// What the server last knew of its file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Witness {
    pub(super) mark: Mark,
    /// The mark of a checkpoint that has begun.
    pub(super) next: Option<Mark>,
    /// As it was after the last checkpoint.
    pub(super) header: Header,
    pub(super) position: Position,
    pub(super) inode: u64,
    /// When the file was last modified, in nanoseconds; `None` while a checkpoint modifies it.
    pub(super) modified: Option<i128>,
    /// Whether the server ended well, so that it left no log.
    pub(super) ended: bool,
    /// When this witness itself was created, in nanoseconds, where the file system tells.
    pub(super) created: Option<u128>,
}

impl Witness {
    /// The witness of that file, unless it cannot be read.
    pub(super) fn read(file: &Path) -> Option<Witness> {
        serde_json::from_slice(&fs::read(beside(file, "witness")).ok()?).ok()
    }

    /// Whether it is no copy of a witness.
    pub(super) fn is_original(&self, file: &Path) -> bool {
        fs::metadata(beside(file, "witness")).is_ok_and(|metadata| created(&metadata) == self.created)
    }

    /// Writes it under another name first, so that a crash leaves either the former or this one.
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

    /// Whether the file is the one that a server had, whatever log is beside it.
    pub(super) fn is_of(&self, file: &File) -> bool {
        Header::read(file)
            .is_ok_and(|header| header.mark.is_some_and(|mark| self.has_mark(mark)) && !header.is_behind(self.header))
    }

    pub(super) fn has_mark(&self, mark: Mark) -> bool {
        mark == self.mark || Some(mark) == self.next
    }
}

/// A file whose name is that of the database with one more extension.
pub(super) fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_added_extension(extension)
}

pub(super) fn created(metadata: &Metadata) -> Option<u128> {
    Some(metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos())
}

pub(super) fn modified(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// When the content, the name or another property of the file was last changed.
pub(super) fn changed(metadata: &Metadata) -> i128 {
    i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec())
}

pub(super) fn is_restored(file: &Path, witness: Option<Witness>, mark: Option<Mark>, position: Position) -> bool {
    match (witness, mark) {
        // No server that writes witnesses has used it yet.
        (None, None) => false,
        (Some(witness), Some(mark)) => {
            !witness.has_mark(mark) || position.is_behind(witness.position) || !witness.is_original(file)
        }
        _ => true,
    }
}
