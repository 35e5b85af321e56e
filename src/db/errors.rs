//! The meaning of database errors, which is recognised by their words.

use std::fmt;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::config::Database;
use crate::error::Error;
use crate::exit::Exit;

/// Why a database cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Damaged,
    /// A row that only a newer version can read.
    Newer,
    Full,
    ReadOnly,
    Forbidden,
    /// A pooler changes the session between transactions.
    Pooled,
    Away,
}

/// Parts of the messages of SQLite and PostgreSQL. The first row with a part of a message decides.
const MESSAGES: [(Refusal, &[&str]); 7] = [
    (Refusal::Newer, &["which this gatebird does not know"]),
    (Refusal::Damaged, &["not a database", "malformed", "unsupported file format"]),
    (
        Refusal::Full,
        &[
            "disk is full",
            "disk I/O error",
            "unable to open database file",
            "could not extend file",
            "No space left on device",
        ],
    ),
    (Refusal::ReadOnly, &["readonly database"]),
    (Refusal::Forbidden, &["permission denied", "must be owner of", "not permitted to log in"]),
    // A statement that was prepared on one session is missing on another.
    (Refusal::Pooled, &["prepared statement", "statement pooling mode"]),
    (
        Refusal::Away,
        &[
            "database is locked",
            "database table is locked",
            "server closed the connection",
            "connection to server",
            "could not connect",
            "no connection to the server",
            "terminating connection",
            "the database system is",
            "canceling statement due to",
            "deadlock detected",
            "too many clients",
            "remaining connection slots",
            "SSL connection has been closed",
            "could not receive data",
            "could not send data",
        ],
    ),
];

impl Refusal {
    /// Returns the meaning of a message; `None` if its words are unknown.
    fn known(message: &str) -> Option<Refusal> {
        let known = MESSAGES.iter().find(|(_, words)| words.iter().any(|word| message.contains(word)));
        known.map(|(refusal, _)| *refusal)
    }

    /// Returns the meaning of a message while the process starts.
    pub(super) fn of(message: &str) -> Refusal {
        Refusal::known(message).unwrap_or(Refusal::Away)
    }

    /// Returns the exit for this refusal, with the words of the database.
    pub(super) fn exit(self, database: &Database, words: &str) -> Exit {
        match self {
            Refusal::Damaged => Exit::data(format!("{database:?} is damaged ({words}); restore it from a backup")),
            Refusal::Newer => {
                Exit::data(format!("{database:?} was used by a newer version: {words}; run that version"))
            }
            Refusal::Full => {
                Exit::cannot_create(format!("{database:?} cannot be written ({words}); is the disk full?"))
            }
            Refusal::ReadOnly | Refusal::Forbidden => {
                Exit::no_permission(format!("{database:?} denies a privilege that Gatebird needs: {words}"))
            }
            Refusal::Pooled => Exit::config(
                "DATABASE_URL names a pooler, such as pgbouncer, that changes a session's connection between transactions: set \
                 pool_mode = session, or name PostgreSQL itself",
            ),
            Refusal::Away => Exit::unavailable(format!("cannot use {database:?}: {words}; check DATABASE_URL")),
        }
    }
}

/// Returns a conversion from a database error at the start to an exit.
pub(super) fn refused<E: fmt::Display>(database: &Database) -> impl Fn(E) -> Exit {
    move |error| {
        let words = error.to_string();
        Refusal::of(&words).exit(database, &words)
    }
}

/// Errors that may pass by themselves become `Busy`; the others are bugs.
impl From<DieselError> for Error {
    fn from(error: DieselError) -> Error {
        match error {
            error if is_transient(&error) => {
                log::warn!("the database is unavailable: {error}");
                Error::Busy
            }
            // Its own message names the field only.
            DieselError::DeserializationError(error) => match error.source() {
                Some(source) => Error::internal(format!("{error}: {source}")),
                None => Error::internal(error),
            },
            error => Error::internal(error),
        }
    }
}

fn is_transient(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, details) => {
            matches!(Refusal::known(details.message()), Some(Refusal::Full | Refusal::ReadOnly | Refusal::Away))
        }
        DieselError::DatabaseError(kind, _) => matches!(
            kind,
            DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction
        ),
        DieselError::BrokenTransactionManager | DieselError::RollbackErrorOnCommit { .. } => true,
        _ => false,
    }
}
