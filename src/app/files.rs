//! What lies beside the embedded database: the key that it signs with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::{Config, Database, HmacSecret};
use crate::exit::Exit;

/// JWT_SECRET, or the one kept beside the embedded database.
///
/// # Errors
/// When that cannot be made, read or trusted.
pub(crate) fn root_secret(config: &Config) -> std::result::Result<HmacSecret, Exit> {
    config.jwt_secret.clone().map_or_else(|| kept_secret(&config.database), Ok)
}

/// The secret beside the embedded database file: made on the first start, for its owner's eyes only.
fn kept_secret(database: &Database) -> std::result::Result<HmacSecret, Exit> {
    let Database::Sqlite(database) = database else {
        return Err(Exit::config("JWT_SECRET is required with PostgreSQL"));
    };
    let path = Database::secret_file(database);
    if !path.exists() {
        make_secret(&path).map_err(|error| Exit::cannot_create(format!("cannot make {}: {error}", path.display())))?;
    }
    let shown = path.display();
    let unreadable = |error| Exit::config(format!("cannot read {shown}: {error}"));
    let mut file = File::open(&path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Exit::config(format!(
            "{shown} can be read by others (mode {:o}); mend it with: chmod 600 {shown}",
            mode & 0o777
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    parse_kept(&path, &text)
}

/// Written under another name first, so that a crash leaves no half of a secret. The database's lock keeps others away.
fn make_secret(path: &Path) -> io::Result<()> {
    let mut random = [0_u8; 48];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    let unfinished = path.with_added_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(STANDARD.encode(random).as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn parse_kept(path: &Path, text: &str) -> std::result::Result<HmacSecret, Exit> {
    HmacSecret::parse(text).map_err(|problem| Exit::config(format!("the secret in {} {problem}", path.display())))
}
