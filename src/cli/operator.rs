//! The database of a command. Commands call actions, which write to the database that running servers use.

use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::Output;
use crate::actions::ByOperator;
use crate::app;
use crate::config::Config;
use crate::db::audit::{Actor, Audited};
use crate::db::{Conn, Db};
use crate::error::Error;
use crate::exit::Exit;

/// The exit status for a database file that a server uses.
const FILE_IN_USE: u8 = 73;

/// An open database with the settings and the output format of a command.
pub(super) struct Operator {
    pub(super) config: Config,
    db: Db,
    pub(super) out: Output,
}

impl Operator {
    /// Opens the database without a migration. Creates it only if `create`.
    pub(super) fn open(config: Config, out: Output, create: bool) -> Result<Operator, Exit> {
        let db = if create { Db::open(&config.database) } else { Db::open_existing(&config.database) };
        let operator = Operator { db: db?, config, out };
        if operator.db.was_restored_unserved()? {
            Err(Exit::data(
                "the database was restored or copied since a server last used it; first start the server, or run: gatebird restore --after",
            ))
        } else {
            Ok(operator)
        }
    }

    /// Like [`Operator::open`], for a database that may have been restored. Locks it unless a server uses it.
    pub(super) fn open_restored(config: Config, out: Output) -> Result<Operator, Exit> {
        let db = match Db::serve_existing(&config.database) {
            Err(exit) if exit.code == FILE_IN_USE => Db::open_existing(&config.database)?,
            served => served?,
        };
        Ok(Operator { config, db, out })
    }

    /// Closes the database and releases its lock.
    pub(super) fn close(self) -> Result<(), Exit> {
        Ok(self.db.close()?)
    }

    /// The author of this command's changes.
    pub(super) fn by(&self) -> ByOperator {
        ByOperator { actor: Actor::OPERATOR, now: app::system_time() }
    }

    pub(super) fn read<T, E: Into<Exit>>(&self, work: impl FnOnce(&mut Conn) -> Result<T, E>) -> Result<T, Exit> {
        self.db.read_now(|conn| Ok(work(conn)))?.map_err(Into::into)
    }

    /// Runs a change that needs no audit row in one transaction.
    pub(super) fn write<T>(&self, work: impl FnOnce(&mut Conn) -> QueryResult<T>) -> Result<T, Exit> {
        self.db.check_rights()?;
        Ok(self.db.write_now(|conn| Ok(work(conn)?))?)
    }

    /// Runs a change with its audit row in one transaction.
    pub(super) fn change<T, E: Into<Exit>>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>, E>,
    ) -> Result<T, Exit> {
        self.db.check_rights()?;
        let mut failure = None;
        let work = |conn: &mut Conn| match work(conn) {
            Ok(changed) => changed.record(conn),
            Err(error) => Err(Error::internal(failure.insert(error.into()))),
        };
        let changed = self.db.change_now(work, |_| Ok(()));
        changed.map_err(|error| failure.unwrap_or_else(|| error.into()))
    }
}

/// 64 for a wrong input, 69 for an unavailable database, 70 for an internal error.
impl From<Error> for Exit {
    fn from(error: Error) -> Exit {
        match &error {
            Error::Busy => Exit::unavailable("the database does not answer; try again"),
            Error::Internal(cause) => Exit::software(format!("failed: {cause}")),
            Error::Field { name, .. } => Exit::usage(format!("{name} {error}")),
            Error::UnknownPlan(_) => Exit::usage(format!("type {error}")),
            Error::Taken { name, .. } => Exit::usage(format!("{name} {error}")),
            _ => Exit::usage(&error),
        }
    }
}

impl From<DieselError> for Exit {
    fn from(error: DieselError) -> Exit {
        Error::from(error).into()
    }
}

/// The exit for an error of the database.
pub(super) fn failed(error: impl Into<Error>) -> Exit {
    error.into().into()
}

/// Maps `NotFound` to an exit of its own.
pub(super) fn or_missing(missing: impl FnOnce() -> Exit) -> impl FnOnce(Error) -> Exit {
    move |error| if matches!(error, Error::NotFound(_)) { missing() } else { error.into() }
}

/// The word for a state in lists and results.
pub(super) fn state(suspended: bool) -> &'static str {
    if suspended { "suspended" } else { "active" }
}
