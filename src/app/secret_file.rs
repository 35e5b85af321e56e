//! The secret file beside an SQLite database, which stands in for JWT_SECRET.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::{Config, Database, HmacSecret};
use crate::exit::Exit;

/// JWT_SECRET, or the secret in the file beside the SQLite database.
///
/// # Errors
/// When the file cannot be created or read, or others can read it.
pub(crate) fn root_secret(config: &Config) -> std::result::Result<HmacSecret, Exit> {
    config.jwt_secret.clone().map_or_else(|| stored_secret(&config.database), Ok)
}

/// The secret beside the database file. The first start creates it, with mode 0600.
fn stored_secret(database: &Database) -> std::result::Result<HmacSecret, Exit> {
    let Database::Sqlite(database) = database else {
        return Err(Exit::config("JWT_SECRET is required with PostgreSQL"));
    };
    let path = Database::secret_file(database);
    if !path.exists() {
        create_secret(&path)
            .map_err(|error| Exit::cannot_create(format!("cannot create {}: {error}", path.display())))?;
    }
    let shown = path.display();
    let unreadable = |error| Exit::config(format!("cannot read {shown}: {error}"));
    let mut file = File::open(&path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Exit::config(format!(
            "others can read {shown} (mode {:o}); fix it with: chmod 600 {shown}",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    parse_secret(&path, &text)
}

/// Creates the secret under another name first, so that a crash cannot leave a partial one. The lock on the database
/// file keeps other servers away.
fn create_secret(path: &Path) -> io::Result<()> {
    let mut random = [0_u8; 48];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    let unfinished = path.with_added_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(STANDARD.encode(random).as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn parse_secret(path: &Path, text: &str) -> std::result::Result<HmacSecret, Exit> {
    HmacSecret::parse(text).map_err(|problem| Exit::config(format!("the secret in {} {problem}", path.display())))
}
