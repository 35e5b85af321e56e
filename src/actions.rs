//! The rules: what a caller can do, without HTTP and JSON.
//!
//! An action takes the caller and typed input, makes its change in one transaction with the rows of the audit log
//! ([`App::write`]), and returns typed output. Handlers parse a request, call one action and render its result. The command
//! line uses the functions that take a connection, because it changes the database beside the server.

pub(crate) mod accounts;
pub(crate) mod domains;
mod own;
pub(crate) mod secrets;
pub(crate) mod verification;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

pub(crate) use self::own::OwnDomain;
#[cfg(doc)]
use crate::app::App;
use crate::error::Error;
use crate::locale::Message;

/// The refusal of an id that is unknown or another tenant's, which the caller cannot tell apart.
pub(crate) fn not_found() -> Error {
    Error::NotFound(Message::NotFound)
}

/// Maps the error of an insert. A unique violation means that the value of the member `name` is taken.
pub(crate) fn conflict_on(name: &'static str, problem: Message) -> impl FnOnce(DieselError) -> Error {
    move |error| match error {
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Error::Taken { name, problem },
        error => owner_deleted(error),
    }
}

/// Maps the error of an insert. A missing owner means that the account was deleted a moment ago.
pub(crate) fn owner_deleted(error: DieselError) -> Error {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => Error::TokenRevoked,
        error => error.into(),
    }
}
