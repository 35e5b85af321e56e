//! `gatebird restore`: replaces the database by a backup, or begins a new epoch after a restore by other means.

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
    /// The backup that replaces the SQLite database. Stop the server first. The copy of an older backup is migrated.
    file: Option<PathBuf>,
    /// Only revoke every earlier token, after the database was restored or failed over by other means.
    #[arg(long)]
    after: bool,
}

const NEXT_STEPS: &str = "Every earlier token is revoked. Clients request new ones, and users must sign in again.";

impl Restore {
    pub(super) fn run(&self, config: Config, out: Output) -> Result<(), Exit> {
        match &self.file {
            Some(backup) => restore(&config, out, backup),
            None => {
                let operator = Operator::open_restored(config, out)?;
                operator.renew_epoch("restored")?;
                operator.close()?;
                out.print_changed(&json!({ "renewed": true }), NEXT_STEPS)
            }
        }
    }
}

fn restore(config: &Config, out: Output, backup: &Path) -> Result<(), Exit> {
    let Database::Sqlite(path) = &config.database else {
        return Err(Exit::usage(
            "this command restores SQLite databases only; restore PostgreSQL with its own tools, then run: gatebird restore --after",
        ));
    };
    let mut restoration = Restoration::begin(path, backup)?;
    let (secret, now) = (root_secret(config)?, app::system_time());
    // The keyring only creates a key, which does not depend on the epoch.
    let keyring = Keyring::new(&secret, config, Stamp::random());
    let cause = (Actor::OPERATOR, "restored");
    let gone =
        restoration.change(now, |conn| keys::renew_epoch(conn, &keyring, cause, None, now)?.record(conn).map(drop));
    let gone = gone.map_err(failed)?;
    restoration.finish()?;
    let accounts = match gone {
        Some(count) => format!("Accounts created after the backup, which are lost: {count}. Their names stay reserved."),
        None => {
            "The former database could not be read: names of accounts that were created after the backup can be taken again."
                .to_owned()
        }
    };
    let lines = format!(
        "{} is restored from {}.\n{accounts}\n{NEXT_STEPS}\nNow start the server.",
        path.display(),
        backup.display()
    );
    out.print_changed(&json!({ "renewed": true, "accountsGone": gone }), &lines)
}
