//! The audit log for the operator: list, verify, archive, export.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Subcommand;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::{Value, json};

use super::archive::Archive;
use super::cannot_write;
use super::operator::Operator;
use crate::db::Page;
use crate::db::audit::chain::{self, Head};
use crate::db::audit::{self, AuditRow, archive};
use crate::exit::Exit;

#[derive(Subcommand)]
pub(super) enum AuditCommand {
    /// List the events, newest first.
    List {
        /// Only the events of this user: a username, or usr_ and a number, which also finds a deleted user.
        #[arg(long)]
        user: Option<String>,
        /// The maximum number of rows.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Verify that no row was edited, deleted, moved or inserted. Prints the head; store it elsewhere for --after.
    Verify {
        /// A head that an earlier run printed (ID:HASH). The log must continue it.
        #[arg(long, value_name = "ID:HASH")]
        after: Option<Head>,
        /// Archive files to verify as well, in the order in which they were written.
        files: Vec<PathBuf>,
    },
    /// Move the oldest rows to a file.
    Archive(Archive),
    /// Print every row, oldest first, as JSON Lines with its hash.
    Export,
}

/// Rows per query of an export.
pub(super) const EXPORT_BATCH: i64 = 1_000;

impl Operator {
    pub(super) fn audit(&self, command: AuditCommand) -> Result<(), Exit> {
        match command {
            AuditCommand::List { user, limit } => {
                let page = Page { limit, before: None };
                let number = user.map(|user| self.user_number(&user)).transpose()?;
                let rows = self.read(|conn| match number {
                    Some(number) => audit::list_of(conn, number, page),
                    None => audit::list_all(conn, page),
                })?;
                self.out.print_list(&rows, |row| (value(row), line(row)), "")
            }
            AuditCommand::Archive(command) => self.archive(&command),
            AuditCommand::Verify { after, files } => {
                self.verify_files(&files, after.as_ref())?;
                let archived = self.read(archive::end)?;
                // A head in an archived row was already found in the files.
                let after = after.filter(|after| files.is_empty() || after.id >= archived.id);
                let head = self.read(|conn| chain::verify(conn, after.as_ref()))?.map_err(Exit::data)?;
                let value = json!({ "rows": head.id, "head": head.to_string() });
                self.out.print(&value, &format!("{} rows, head {head}", head.id))
            }
            AuditCommand::Export => match self.export(BufWriter::new(io::stdout().lock())) {
                // The reader closed the pipe.
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                Ok(written) => written.map_err(|error| cannot_write(&error)),
                Err(exit) => Err(exit),
            },
        }
    }

    /// The number of a user, by name or by `usr_...`. The id comes first, so that no name can hide another user's rows.
    fn user_number(&self, text: &str) -> Result<i64, Exit> {
        match text.strip_prefix("usr_").and_then(|number| number.parse().ok()) {
            Some(number) => Ok(number),
            None => Ok(self.find_user(text)?.tenant.id.get()),
        }
    }

    fn export(&self, mut out: impl Write) -> Result<io::Result<()>, Exit> {
        let mut from = i64::MIN;
        loop {
            let rows = self.read(|conn| audit::list_from(conn, from, EXPORT_BATCH))?;
            let Some(last) = rows.last() else { return Ok(out.flush()) };
            from = last.id.saturating_add(1);
            for row in &rows {
                if let Err(error) = writeln!(out, "{}", value(row)) {
                    return Ok(Err(error));
                }
            }
        }
    }
}

/// The row as JSON. The detail is a string, because the hash covers its text.
pub(super) fn value(row: &AuditRow) -> Value {
    json!({
        "id": row.id,
        "at": row.at,
        "actor": row.actor,
        "address": row.address,
        "tenant": row.tenant,
        "action": row.action,
        "target": row.target,
        "detail": row.detail,
        "hash": HEXLOWER.encode(&row.hash),
    })
}

/// Parses a line that [`value`] wrote.
pub(super) fn row_of(line: &str) -> Option<AuditRow> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |member: &str| value[member].as_str().map(str::to_owned);
    Some(AuditRow {
        id: value["id"].as_i64()?,
        at: value["at"].as_i64()?,
        actor: text("actor")?,
        address: text("address"),
        tenant: value["tenant"].as_i64(),
        action: text("action")?,
        target: text("target")?,
        detail: text("detail"),
        hash: HEXLOWER_PERMISSIVE.decode(value["hash"].as_str()?.as_bytes()).ok()?,
    })
}

fn line(row: &AuditRow) -> String {
    let of = |tenant: i64| format!("usr_{tenant}");
    let columns = [
        row.id.to_string(),
        row.at.to_string(),
        row.tenant.map_or_else(|| "-".to_owned(), of),
        row.action.clone(),
        row.target.clone(),
        format!("by {}", row.actor),
    ];
    let from = row.address.as_ref().map(|address| format!("from {address}"));
    columns.into_iter().chain(from).chain(row.detail.clone()).collect::<Vec<_>>().join(" ")
}
