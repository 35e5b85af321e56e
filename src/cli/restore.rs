//! Puts a backup in the place of the database, or begins a new epoch after that was done by other means.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Output;
use super::operator::{Operator, failed};
use crate::app::{self, keys, root_secret};
use crate::config::{Config, Database};
use crate::db::audit::Actor;
use crate::db::restore::Restoration;
use crate::exit::Exit;
use crate::id::Stamp;
use crate::token::keyring::Keyring;

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Restore {
    /// The backup that takes the place of the SQLite database. Stop the server first.
    file: Option<PathBuf>,
    /// The database was restored or failed over by other means: only refuse every earlier token.
    #[arg(long)]
    after: bool,
}

/// What happens next, after either way.
const NEXT: &str = "Every earlier token is refused. Clients get new ones by themselves, and people sign in again.";

impl Restore {
    pub(super) fn run(&self, config: Config, out: Output) -> Result<(), Exit> {
        match &self.file {
            Some(backup) => restore(&config, out, backup),
            None => {
                let operator = Operator::open_restored(config, out)?;
                operator.renew_epoch("restored")?;
                operator.close()?;
                out.print_changed(&json!({ "renewed": true }), NEXT)
            }
        }
    }
}

fn restore(config: &Config, out: Output, backup: &Path) -> Result<(), Exit> {
    let Database::Sqlite(path) = &config.database else {
        return Err(Exit::usage(
            "only a SQLite database is restored by this command; restore PostgreSQL by its own means, then run: gatebird restore --after",
        ));
    };
    let mut restoration = Restoration::begin(path, backup)?;
    let (secret, now) = (root_secret(config)?, app::system_time());
    // Its epoch is of no importance: it only makes a key.
    let keyring = Keyring::new(&secret, config, Stamp::random());
    let cause = (Actor::OPERATOR, "restored");
    let gone =
        restoration.change(now, |conn| keys::renew_epoch(conn, &keyring, cause, None, now)?.record(conn).map(drop));
    let gone = gone.map_err(failed)?;
    restoration.finish()?;
    let accounts = match gone {
        Some(count) => format!("{count} accounts were made since the backup and are gone; their names stay reserved."),
        None => {
            "The former database could not be read: names that were given away since the backup may be given again."
                .to_owned()
        }
    };
    let lines =
        format!("{} is restored from {}.\n{accounts}\n{NEXT}\nNow start the server.", path.display(), backup.display());
    out.print_changed(&json!({ "renewed": true, "accountsGone": gone }), &lines)
}
