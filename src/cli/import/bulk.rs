//! `gatebird import domains`: registers domains from a CSV file in batches of one transaction. Only one batch and the report
//! are in memory.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde::Deserialize;
use serde_json::json;

use super::super::operator::Operator;
use super::{Import, open, plan};
use crate::actions::accounts::Signup;
use crate::app::bounds::check_stored;
use crate::db::audit::Audited;
use crate::db::import::{self, BATCH_SIZE, ImportOutcome, ImportedDomain};
use crate::db::user::NewUser;
use crate::db::{Conn, domain, secret, user};
use crate::exit::Exit;
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::locale::Locale;
use crate::name::Username;
use crate::password;
use crate::plan::Plan;
use crate::secret::ClientSecret;

/// The columns of the file, sorted. The last file has secrets.
const HEADERS: [&[&str]; 2] = [&["host", "type", "username"], &["clientSecret", "host", "type", "username"]];

pub(super) fn import(operator: &Operator, path: &Path, make_users: bool, secrets: Option<&Path>) -> Result<(), Exit> {
    let mut file = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(open(path)?);
    check_header(file.headers().map_err(|error| unreadable(&error))?)?;
    let mut state = BulkImport {
        import: Import::new(operator),
        make_users,
        secrets: secrets.map(SecretsFile::create).transpose()?,
        users: 0,
        domains: 0,
        already: 0,
        committing: false,
    };
    let result = operator.change_or_exit(|conn| {
        import::begin(conn)?;
        state.rows(conn, &mut file)?;
        check_stored(conn, &operator.config)?;
        // The file must be on disk before the database has the digests, from which no secret can be recovered.
        state.secrets.as_mut().map_or(Ok(()), SecretsFile::sync)?;
        state.committing = true;
        // The audit rows were already written per batch.
        Ok(Audited::nothing(()))
    });
    match &state.secrets {
        Some(secrets) if !state.committing || secrets.written == 0 => secrets.remove(),
        Some(secrets) if result.is_err() => {
            // The connection may have been lost after the commit.
            log::warn!("{} is kept; run the same import again to see whether it was committed", secrets.path.display());
        }
        _ => {}
    }
    result?;
    let BulkImport { import, users, domains, already, .. } = state;
    let skipped = import.skipped;
    let sums = json!({ "imported": { "users": users, "domains": domains }, "already": already, "skipped": skipped });
    let line = format!("imported {domains} domains, made {users} users; here already {already}; skipped {skipped}");
    import.print(&sums, &line, users + domains + already)
}

fn check_header(header: &StringRecord) -> Result<(), Exit> {
    let mut columns: Vec<&str> = header.iter().collect();
    columns.sort_unstable();
    if HEADERS.contains(&columns.as_slice()) {
        return Ok(());
    }
    Err(Exit::data(if HEADERS[0].iter().all(|column| columns.contains(column)) {
        "there are columns other than username, host, type and clientSecret"
    } else {
        "the first line must be: username,host,type or username,host,type,clientSecret"
    }))
}

/// The exit for an unreadable line. The error itself may quote the line, which may have a secret.
fn unreadable(error: &csv::Error) -> Exit {
    let what = match error.kind() {
        csv::ErrorKind::Io(error) => error.to_string(),
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} fields instead of {expected_len}")
        }
        _ => "it is not CSV".to_owned(),
    };
    let line = error.position().map_or(1, csv::Position::line);
    Exit::data(format!("line {line} cannot be read: {what}; nothing was changed"))
}

/// The source in `imports` of users that imports created. Their ids there are the keys of their names.
const MADE_USERS: &str = "domains";

/// A row as it is written. A column that the file does not have is empty.
#[derive(Deserialize)]
struct Record<'a> {
    username: &'a str,
    host: &'a str,
    r#type: &'a str,
    #[serde(default, rename = "clientSecret")]
    secret: &'a str,
}

/// A valid row.
struct Row {
    line: u64,
    username: String,
    host: Host,
    plan: Plan,
    secret: Option<ClientSecret>,
}

/// The state of an import.
struct BulkImport<'a> {
    import: Import<'a>,
    make_users: bool,
    secrets: Option<SecretsFile>,
    /// Created users.
    users: u64,
    /// Registered domains.
    domains: u64,
    /// Rows that were imported before.
    already: u64,
    /// Whether only the commit is left.
    committing: bool,
}

impl BulkImport<'_> {
    /// Imports the rows batch by batch.
    fn rows(&mut self, conn: &mut Conn, file: &mut csv::Reader<BufReader<File>>) -> Result<(), Exit> {
        let header = file.headers().map_err(|error| unreadable(&error))?.clone();
        let mut batch = Vec::new();
        for record in file.records() {
            let record = record.map_err(|error| unreadable(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            match self.row(line, &record, &header) {
                Ok(Row { secret: None, .. }) if self.secrets.is_none() => {
                    return Err(Exit::usage(format!(
                        "line {line} has no clientSecret: give --secrets FILE for the new secrets; nothing was changed"
                    )));
                }
                Ok(row) => batch.push(row),
                Err(why) => self.import.skip("line", line, &why),
            }
            if batch.len() == BATCH_SIZE {
                self.insert(conn, std::mem::take(&mut batch))?;
            }
        }
        self.insert(conn, batch)
    }

    /// Parses a row, or says why it is skipped.
    fn row(&self, line: u64, record: &StringRecord, header: &StringRecord) -> Result<Row, String> {
        let Record { username, host, r#type, secret } =
            record.deserialize(Some(header)).map_err(|_| "it is not a row of the file")?;
        Username::parse(username)
            .map_err(|problem| format!("the username {username:?} {}", problem.text(Locale::En)))?;
        let (host, plan) = (self.import.host(host)?, plan(r#type)?);
        let secret = match secret {
            "" => None,
            given => Some(ClientSecret::parse(given).ok_or("clientSecret is neither a secret of Gatebird nor a UUID")?),
        };
        Ok(Row { line, username: username.to_owned(), host, plan, secret })
    }

    fn insert(&mut self, conn: &mut Conn, batch: Vec<Row>) -> Result<(), Exit> {
        let owners = self.owners(conn, &batch)?;
        let mut new = Vec::with_capacity(batch.len());
        for Row { line, username, host, plan, secret } in batch {
            let Some(user_id) = owners.get(&Username::key(&username)).copied() else {
                let why = if self.make_users {
                    "belongs to an account that no import created, or to a deleted account; if it is the right account, import this row without --make-users"
                } else {
                    "does not exist; --make-users creates missing users"
                };
                self.import.skip("line", line, &format!("the username {username} {why}"));
                continue;
            };
            let (id, has_secret) = (DomainId::random(), secret.is_some());
            let secret = secret.unwrap_or_else(ClientSecret::random);
            let domain = ImportedDomain { id, user_id, host, plan, created_at: self.import.now, secret };
            new.push(((line, username, has_secret), domain));
        }
        for ((line, username, has_secret), domain, outcome) in import::insert_domains(conn, new)? {
            let why = match outcome {
                ImportOutcome::Inserted => {
                    let detail = json!({ "host": domain.host.as_str(), "type": domain.plan.as_str() });
                    self.import.event("domain.imported", domain.id, domain.user_id, Some(detail));
                    self.domains += 1;
                    if let Some(secrets) = self.secrets.as_mut().filter(|_| !has_secret) {
                        secrets.write(&username, &domain)?;
                    }
                    continue;
                }
                ImportOutcome::HostTaken if has_secret => "the user already has this host with another secret",
                ImportOutcome::HostTaken | ImportOutcome::SecretTaken => {
                    if let Some(here) = find_existing(conn, &domain, has_secret)? {
                        self.already += 1;
                        self.import.compare("line", line, here.plan, domain.plan);
                        continue;
                    }
                    "another domain has this clientSecret"
                }
                ImportOutcome::HostVerified => "another user verified this host",
            };
            self.import.skip("line", line, why);
        }
        self.record(conn)
    }

    /// The owners of the rows by the keys of their names.
    ///
    /// With `--make-users`, missing users are created, and accounts that no import created are left out, because
    /// another person may have signed up with the name.
    fn owners(&mut self, conn: &mut Conn, batch: &[Row]) -> Result<HashMap<String, UserId>, Exit> {
        let mut names: HashMap<String, &str> =
            batch.iter().map(|row| (Username::key(&row.username), row.username.as_str())).collect();
        let mut owners = user::ids_by_name(conn, names.keys())?;
        if self.make_users {
            let made_before = import::known_of(conn, MADE_USERS, names.keys())?;
            names.retain(|key, _| !owners.contains_key(key));
            owners.retain(|key, id| made_before.get(key) == Some(&id.to_string()));
            let hash = || password::unusable(self.import.config.bcrypt_cost);
            let new = names.into_values().map(|name| Ok(Signup::parse(name, None)?.with_hash(hash(), self.import.now)));
            let new: Vec<NewUser> = new.collect::<Result<_, Exit>>()?;
            let made = import::insert_users(conn, &new)?;
            for id in made.values() {
                self.import.event("user.imported", id, *id, None);
            }
            self.record(conn)?;
            import::remember(conn, MADE_USERS, made.iter().map(|(key, id)| (key.clone(), id.to_string())).collect())?;
            self.users += made.len() as u64;
            owners.extend(made);
        }
        Ok(owners)
    }

    /// Writes the audit rows of a batch.
    fn record(&mut self, conn: &mut Conn) -> Result<(), Exit> {
        Ok(Audited::several((), std::mem::take(&mut self.import.entries)).record(conn)?)
    }
}

/// The domain that an earlier import or an earlier row registered for the same row. If the row has a secret, the domain
/// must have it too.
fn find_existing(conn: &mut Conn, new: &ImportedDomain, has_secret: bool) -> Result<Option<domain::DomainRow>, Exit> {
    let here = domain::find_by_host(conn, new.user_id, &new.host)?;
    let of_secret = if has_secret { secret::find(conn, new.secret.digest())? } else { None };
    Ok(here.filter(|here| !has_secret || of_secret == Some(here.id)))
}

/// The file of new secrets. Only the operator can read it, and it is complete before the commit.
struct SecretsFile {
    path: PathBuf,
    writer: csv::Writer<File>,
    written: u64,
}

impl SecretsFile {
    fn create(path: &Path) -> Result<SecretsFile, Exit> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| Exit::cannot_create(format!("cannot create {}: {error}", path.display())))?;
        let mut secrets = SecretsFile { path: path.to_owned(), writer: csv::Writer::from_writer(file), written: 0 };
        secrets.record(["username", "host", "id", "clientSecret"])?;
        Ok(secrets)
    }

    fn write(&mut self, username: &str, domain: &ImportedDomain) -> Result<(), Exit> {
        self.written += 1;
        self.record([username, domain.host.as_str(), domain.id.as_str(), domain.secret.reveal()])
    }

    fn record(&mut self, fields: [&str; 4]) -> Result<(), Exit> {
        self.writer.write_record(fields).map_err(|error| self.cannot_write(&error))
    }

    fn sync(&mut self) -> Result<(), Exit> {
        let written = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        written.map_err(|error| self.cannot_write(&error))
    }

    fn cannot_write(&self, error: &dyn std::fmt::Display) -> Exit {
        Exit::cannot_create(format!("cannot write {}: {error}; nothing was changed", self.path.display()))
    }

    /// Removes the file, whose secrets belong to no domain.
    fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
