//! Parser of the file that `deploy/nodebird-export.sql` writes.

use std::io::BufRead;

use serde::{Deserialize, Deserializer};

use crate::exit::Exit;

/// A line of the file. A wrong type or name of a member is an error of the file; an unusable value is not.
#[derive(Deserialize)]
#[serde(tag = "table", rename_all = "camelCase")]
enum Line {
    Users(User),
    Domains(Domain),
    End { users: usize, domains: usize },
}

/// A user of the other system.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct User {
    pub(super) id: u32,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) email: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) nick: String,
    pub(super) password: Option<String>,
    /// `local`, or an identity provider such as `kakao`.
    #[serde(default, deserialize_with = "nullable")]
    pub(super) provider: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) sns_id: String,
    /// Unix seconds.
    pub(super) created_at: Option<i64>,
    pub(super) deleted_at: Option<i64>,
}

/// A domain of the other system.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Domain {
    pub(super) id: u32,
    #[serde(default, deserialize_with = "nullable")]
    pub(super) host: String,
    #[serde(default, deserialize_with = "nullable", rename = "type")]
    pub(super) plan: String,
    pub(super) client_secret: Option<String>,
    pub(super) user_id: Option<u32>,
    /// Unix seconds.
    pub(super) created_at: Option<i64>,
    pub(super) deleted_at: Option<i64>,
}

/// Reads `null` as an empty text.
fn nullable<'de, D: Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    Option::deserialize(text).map(Option::unwrap_or_default)
}

/// The whole file. Each table is sorted by id.
pub(super) struct Export {
    pub(super) users: Vec<User>,
    pub(super) domains: Vec<Domain>,
}

impl Export {
    /// # Errors
    /// Exit status 65 for an invalid line and for an incomplete file.
    pub(super) fn read(file: impl BufRead) -> Result<Export, Exit> {
        let (mut users, mut domains, mut counts) = (Vec::new(), Vec::new(), None);
        for (number, line) in (1..).zip(file.split(b'\n')) {
            let line = line.map_err(|error| Exit::data(format!("line {number} cannot be read: {error}")))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            // The error would quote the line, which has secrets.
            let parsed = serde_json::from_slice(&line).map_err(|error| {
                Exit::data(format!(
                    "line {number} is not a row of the export (at character {}); nothing was changed",
                    error.column()
                ))
            })?;
            match parsed {
                Line::Users(user) => users.push(user),
                Line::Domains(domain) => domains.push(domain),
                Line::End { users, domains } => counts = Some((users, domains)),
            }
        }
        users.sort_by_key(|user: &User| user.id);
        domains.sort_by_key(|domain: &Domain| domain.id);
        users.dedup_by_key(|user| user.id);
        domains.dedup_by_key(|domain| domain.id);
        match counts {
            Some(counts) if counts == (users.len(), domains.len()) => Ok(Export { users, domains }),
            Some(_) => {
                Err(Exit::data("rows are missing from the file or are there twice: export again; nothing was changed"))
            }
            None => Err(Exit::data("the end of the export is missing: export again; nothing was changed")),
        }
    }
}
