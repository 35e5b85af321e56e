//! Parser of the file that `deploy/nodebird-export.sql` writes.

use std::io::BufRead;

use serde::Deserialize;

use crate::exit::Exit;
use crate::password::PlainHash;
use crate::secret::ClientSecret;

/// A line of the file. A wrong type or name of a member is an error of the file; an unusable value is not.
#[derive(Deserialize)]
#[serde(tag = "table", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Line {
    Users {
        id: u32,
        email: Option<String>,
        nick: Option<String>,
        password: Option<String>,
        provider: Option<String>,
        sns_id: Option<String>,
        created_at: Option<i64>,
        deleted_at: Option<i64>,
    },
    Domains {
        id: u32,
        host: Option<String>,
        #[serde(rename = "type")]
        plan: Option<String>,
        client_secret: Option<String>,
        user_id: Option<u32>,
        created_at: Option<i64>,
        deleted_at: Option<i64>,
    },
    End {
        users: usize,
        domains: usize,
    },
}

/// A user of the other system.
pub(super) struct User {
    pub(super) id: u32,
    pub(super) email: String,
    pub(super) nick: String,
    /// `None` if the user signs in with another provider or the hash is not bcrypt's.
    pub(super) password: Option<PlainHash>,
    /// `local`, or an identity provider such as `kakao`.
    pub(super) provider: String,
    pub(super) sns_id: String,
    /// Unix seconds.
    pub(super) created_at: Option<i64>,
    pub(super) deleted: bool,
}

/// A domain of the other system.
pub(super) struct Domain {
    pub(super) id: u32,
    pub(super) host: String,
    pub(super) plan: String,
    pub(super) secret: Option<ClientSecret>,
    pub(super) user: Option<u32>,
    /// Unix seconds.
    pub(super) created_at: Option<i64>,
    pub(super) deleted: bool,
}

/// The whole file. Each table is sorted by id.
pub(super) struct Export {
    pub(super) users: Vec<User>,
    pub(super) domains: Vec<Domain>,
}

impl Export {
    /// # Errors
    /// Exit status 65 for an invalid line and for an incomplete file.
    pub(super) fn read(mut file: impl BufRead) -> Result<Export, Exit> {
        let mut export = Export { users: Vec::new(), domains: Vec::new() };
        let mut counts = None;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = file.read_until(b'\n', &mut line);
            if read.map_err(|error| Exit::data(format!("line {number} cannot be read: {error}")))? == 0 {
                break;
            }
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
                Line::End { users, domains } => counts = Some((users, domains)),
                row => export.push(row),
            }
        }
        export.users.sort_by_key(|user| user.id);
        export.domains.sort_by_key(|domain| domain.id);
        export.users.dedup_by_key(|user| user.id);
        export.domains.dedup_by_key(|domain| domain.id);
        match counts {
            Some(counts) if counts == (export.users.len(), export.domains.len()) => Ok(export),
            Some(_) => {
                Err(Exit::data("rows are missing from the file or are there twice: export again; nothing was changed"))
            }
            None => Err(Exit::data("the end of the export is missing: export again; nothing was changed")),
        }
    }

    fn push(&mut self, row: Line) {
        match row {
            Line::Users { id, email, nick, password, provider, sns_id, created_at, deleted_at } => {
                let provider = provider.unwrap_or_default();
                let local = provider == "local";
                self.users.push(User {
                    id,
                    email: email.unwrap_or_default(),
                    nick: nick.unwrap_or_default(),
                    password: password.filter(|_| local).as_deref().and_then(PlainHash::parse),
                    provider,
                    sns_id: sns_id.unwrap_or_default(),
                    created_at,
                    deleted: deleted_at.is_some(),
                });
            }
            Line::Domains { id, host, plan, client_secret, user_id, created_at, deleted_at } => {
                self.domains.push(Domain {
                    id,
                    host: host.unwrap_or_default(),
                    plan: plan.unwrap_or_default(),
                    secret: client_secret.as_deref().and_then(ClientSecret::parse),
                    user: user_id,
                    created_at,
                    deleted: deleted_at.is_some(),
                });
            }
            Line::End { .. } => {}
        }
    }
}
