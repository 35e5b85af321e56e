//! `gatebird audit archive`: moves the oldest rows of the audit log to a file, and verifies such files.
//!
//! Rows are deleted only after the file has its final name and is synced to disk. An interrupted command can be
//! repeated.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::audit::{EXPORT_BATCH, row_of, value};
use super::operator::Operator;
use crate::app;
use crate::config;
use crate::db::audit::chain::{self, Head};
use crate::db::audit::{self, Actor, AuditRow, Audited, archive};
use crate::error::Error;
use crate::exit::Exit;

#[derive(Args)]
pub(super) struct Archive {
    /// Archive the rows that were written before this day (UTC), such as 2027-01-31.
    #[arg(long, value_name = "DATE", value_parser = config::date)]
    before: i64,
    /// The file to create, in JSON Lines as `export` prints them. Keep it: the hash chain begins in it.
    file: PathBuf,
}

impl Operator {
    pub(super) fn archive(&self, command: &Archive) -> Result<(), Exit> {
        let Archive { before, file } = command;
        let now = app::system_time();
        let start = self.read(archive::end)?;
        let end = if file.exists() {
            self.existing_archive(file, &start)?
        } else {
            match self.read(|conn| archive::last_before(conn, *before, now))? {
                Some(last) if last > start.id => Some(self.write_archive(file, &start, last)?),
                _ => None,
            }
        };
        if let Some(end) = end.filter(|end| *end != start) {
            let moved = |conn: &mut _| {
                if archive::move_end(conn, &start, &end)? {
                    let entry = Actor::OPERATOR.event(archive::ARCHIVED, &end, None, now);
                    Ok(Audited::new((), entry))
                } else {
                    Err(Error::internal("another command archived rows at the same time"))
                }
            };
            self.change(moved)?;
        }
        while self.write(archive::delete_some)? {}
        let end = self.read(archive::end)?;
        let rows = end.id - start.id;
        self.out.print_changed(&json!({ "archived": rows, "end": end.to_string() }), &format!("{rows} rows, end {end}"))
    }

    /// Writes the rows after `start` up to row `last`, verifies them, and returns their last head.
    fn write_archive(&self, path: &Path, start: &Head, last: i64) -> Result<Head, Exit> {
        let cannot = |error: io::Error| Exit::cannot_create(format!("cannot write {}: {error}", path.display()));
        let unfinished = path.with_added_extension("unfinished");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let mut out = BufWriter::new(file.map_err(cannot)?);
        let mut reached = start.clone();
        while reached.id < last {
            let most = EXPORT_BATCH.min(last - reached.id);
            let rows = self.read(|conn| audit::list_from(conn, reached.id + 1, most))?;
            if rows.is_empty() {
                return Err(Exit::data("the audit log ends too early; see: gatebird audit verify"));
            }
            for row in rows {
                writeln!(out, "{}", value(&row)).map_err(cannot)?;
                reached = chain::next_head(&reached, row, None).map_err(Exit::data)?;
            }
        }
        let file = out.into_inner().map_err(|error| cannot(error.into_error()))?;
        file.sync_all().map_err(cannot)?;
        // Unlike a rename, a hard link does not replace an existing file.
        fs::hard_link(&unfinished, path).and_then(|()| fs::remove_file(&unfinished)).map_err(cannot)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
        Ok(reached)
    }

    /// The last head of a file that an interrupted command wrote. Any other existing file is refused.
    fn existing_archive(&self, path: &Path, start: &Head) -> Result<Option<Head>, Exit> {
        if last_head(path).is_ok_and(|end| end.as_ref() == Some(start)) {
            return Ok(None);
        }
        let end = read(path, None, &[start]).ok();
        let row = |end: &Head| self.read(|conn| archive::hash_of(conn, end.id));
        match end.as_ref().map(row).transpose()?.flatten() {
            Some(hash) if end.as_ref().is_some_and(|end| end.hash == hash) => Ok(end),
            _ => Err(Exit::cannot_create(format!("{} already exists; name another file", path.display()))),
        }
    }

    /// Verifies that the archive files form one chain and that the log in the database continues it.
    pub(super) fn verify_files(&self, files: &[PathBuf], known: Option<&Head>) -> Result<(), Exit> {
        let first = Head::default();
        let mut reached: Option<Head> = None;
        for path in files {
            let end = match &reached {
                Some(reached) => read(path, known, &[reached])?,
                None => read(path, known, &[&first, known.unwrap_or(&first)])?,
            };
            reached = Some(end);
        }
        let archived = self.read(archive::end)?;
        match reached {
            Some(reached) if reached != archived => {
                Err(Exit::data(format!("the files end at {reached}, but the database was archived up to {archived}")))
            }
            _ => Ok(()),
        }
    }
}

/// Verifies the chain of an archive, which must begin after one of the heads `starts`. Returns its last head.
fn read(path: &Path, known: Option<&Head>, starts: &[&Head]) -> Result<Head, Exit> {
    let bad = |what: &dyn Display| Exit::data(format!("{}: {what}", path.display()));
    let mut reached: Option<Head> = None;
    for row in rows(path)? {
        let row = row.map_err(|error| bad(&error))?;
        let before = match reached.take() {
            Some(reached) => reached,
            None => match starts.iter().find(|start| start.id + 1 == row.id) {
                Some(start) => (*start).clone(),
                None => return Err(bad(&format!("begins with row {}; the previous file is missing", row.id))),
            },
        };
        reached = Some(chain::next_head(&before, row, known).map_err(|broken| bad(&broken))?);
    }
    reached.ok_or_else(|| bad(&"has no row"))
}

/// The head in the last line of a file.
fn last_head(path: &Path) -> Result<Option<Head>, Exit> {
    let last = rows(path)?.last().and_then(io::Result::ok);
    Ok(last.map(|row| Head { id: row.id, hash: row.hash }))
}

fn rows(path: &Path) -> Result<impl Iterator<Item = io::Result<AuditRow>>, Exit> {
    let cannot = |error| Exit::usage(format!("cannot read {}: {error}", path.display()));
    let lines = BufReader::new(File::open(path).map_err(cannot)?).lines();
    Ok(lines.map(|line| row_of(&line?).ok_or_else(|| io::Error::other("a line is not a row of the audit log"))))
}
