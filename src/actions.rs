//! The rules: what a caller can do, without HTTP and JSON.
//!
//! An action takes the caller and typed input, makes its change in one transaction with the rows of the audit log
//! ([`App::write`]), and returns typed output. Handlers parse a request, call one action and render its result. Reads
//! without rules of their own need no action.
//!
//! The operator's actions, which take [`ByOperator`], run in a transaction of the caller: the command line has no [`App`],
//! because it changes the database beside the server. They return `NotFound` for what does not exist.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod domains;
pub(crate) mod keys;
pub(crate) mod posts;
pub(crate) mod secrets;
pub(crate) mod usage;
pub(crate) mod verification;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

pub(crate) use self::domains::OwnDomain;
#[cfg(doc)]
use crate::app::App;
use crate::db::audit::{Actor, Entry};
use crate::error::Error;
use crate::id::UserId;
use crate::locale::Message;

/// The operator, who may change what belongs to any user, at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByOperator {
    pub(crate) actor: Actor,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl ByOperator {
    /// An audit row for a change of what belongs to `user`.
    fn event(self, action: &'static str, target: impl ToString, user: UserId) -> Entry {
        self.actor.event(action, target, Some(user), self.now)
    }
}

/// The refusal of an id that is unknown or another tenant's, which the caller cannot tell apart.
pub(crate) fn not_found() -> Error {
    Error::NotFound(Message::NotFound)
}

/// Maps the error of an insert. A unique violation means that the value of the member `name` is taken.
pub(crate) fn conflict_on(name: &'static str, problem: Message) -> impl FnOnce(DieselError) -> Error {
    move |error| match error {
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Error::Taken { name, problem },
        error => error.into(),
    }
}
