//! `gatebird import domains`: registers domains from a CSV file in batches of one transaction. Only one batch and the report
//! are in memory.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::BufRead;
use std::iter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde_json::json;

use super::super::operator::Operator;
use super::{Report, failed, open};
use crate::actions::accounts::Signup;
use crate::app;
use crate::app::bounds::check_stored;
use crate::config::Config;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::import::{self, BATCH_SIZE, ImportOutcome};
use crate::db::user::NewUser;
use crate::db::{Conn, domain, secret, user};
use crate::exit::Exit;
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::name::Username;
use crate::password;
use crate::plan::Plan;
use crate::secret::ClientSecret;

pub(super) fn import(operator: &Operator, path: &Path, make_users: bool, secrets: Option<&Path>) -> Result<(), Exit> {
    let mut file = Rows::open(path, &operator.config)?;
    let mut state = BulkImport {
        config: &operator.config,
        make_users,
        now: app::system_time(),
        report: Report::new(operator.out),
        secrets: secrets.map(SecretsFile::create).transpose()?,
        users: 0,
        domains: 0,
        already: 0,
        committing: false,
    };
    let result = operator.change(|conn| {
        import::begin(conn).map_err(failed)?;
        let mut batch = Vec::with_capacity(BATCH_SIZE);
        while let Some(row) = file.next(state.secrets.is_some(), &mut state.report)? {
            batch.push(row);
            if batch.len() == BATCH_SIZE {
                state.insert(conn, std::mem::take(&mut batch))?;
            }
        }
        state.insert(conn, batch)?;
        check_stored(conn, &operator.config).map_err(failed)?;
        state.finish()
    });
    if let Some(secrets) = state.secrets.take_if(|secrets| result.is_err() && !state.committing || secrets.written == 0)
    {
        secrets.discard();
    }
    if let (Err(_), Some(secrets)) = (&result, &state.secrets) {
        // The connection may have been lost after the commit.
        log::warn!("{} is kept; run the same import again to see whether it was committed", secrets.path.display());
    }
    result?;
    let BulkImport { users, domains, already, .. } = state;
    let skipped = state.report.skipped;
    let sums = json!({ "imported": { "users": users, "domains": domains }, "already": already, "skipped": skipped });
    let line = format!("imported {domains} domains, made {users} users; here already {already}; skipped {skipped}");
    state.report.print(&sums, &line, (users + domains) as u64 + already)
}

/// A valid row of the file.
struct Row {
    line: u64,
    username: String,
    host: Host,
    plan: Plan,
    secret: Option<ClientSecret>,
}

struct Rows<'a, R> {
    reader: csv::Reader<R>,
    record: StringRecord,
    /// The positions of `username`, `host` and `type`, and of `clientSecret`.
    columns: ([usize; 3], Option<usize>),
    config: &'a Config,
}

impl<'a> Rows<'a, std::io::BufReader<File>> {
    fn open(path: &Path, config: &'a Config) -> Result<Self, Exit> {
        Rows::read(open(path)?, config)
    }
}

impl<'a, R: BufRead> Rows<'a, R> {
    fn read(file: R, config: &'a Config) -> Result<Rows<'a, R>, Exit> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| unreadable(&error))?;
        let place = |name: &str| header.iter().position(|column| column == name);
        let needed = ["username", "host", "type"].map(place);
        let [Some(username), Some(host), Some(plan)] = needed else {
            return Err(Exit::data("the first line must be: username,host,type or username,host,type,clientSecret"));
        };
        let secret = place("clientSecret");
        if header.len() != 3 + usize::from(secret.is_some()) {
            return Err(Exit::data("there are columns other than username, host, type and clientSecret"));
        }
        Ok(Rows { reader, record: StringRecord::new(), columns: ([username, host, plan], secret), config })
    }

    /// The next valid row. Invalid rows before it are reported.
    fn next(&mut self, makes_secrets: bool, report: &mut Report) -> Result<Option<Row>, Exit> {
        while self.reader.read_record(&mut self.record).map_err(|error| unreadable(&error))? {
            let line = self.record.position().map_or(0, csv::Position::line);
            match self.row(line) {
                Ok(Row { secret: None, .. }) if !makes_secrets => {
                    return Err(Exit::usage(format!(
                        "line {line} has no clientSecret: give --secrets FILE for the new secrets; nothing was changed"
                    )));
                }
                Ok(row) => return Ok(Some(row)),
                Err(why) => report.skip("line", line, &why),
            }
        }
        Ok(None)
    }

    fn row(&self, line: u64) -> Result<Row, String> {
        let ([username, host, plan], secret) = self.columns;
        let text = |column: usize| self.record.get(column).unwrap_or_default();
        let problem = |problem: crate::locale::Message| problem.text(crate::locale::Locale::En);
        Username::parse(text(username))
            .map_err(|message| format!("username {:?}: {}", text(username), problem(message)))?;
        let parsed = Host::parse(text(host), self.config.local_hosts);
        let host = parsed.map_err(|message| format!("host {:?}: {}", text(host), problem(message)))?;
        let plan = Plan::parse(text(plan)).ok_or_else(|| format!("there is no type {:?}", text(plan)))?;
        let secret = match secret.map(text).unwrap_or_default() {
            "" => None,
            given => Some(ClientSecret::parse(given).ok_or("clientSecret is neither a secret of Gatebird nor a UUID")?),
        };
        Ok(Row { line, username: text(username).to_owned(), host, plan, secret })
    }
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

/// The state of an import.
struct BulkImport<'a> {
    config: &'a Config,
    make_users: bool,
    /// Unix seconds.
    now: i64,
    report: Report,
    secrets: Option<SecretsFile>,
    /// Created users.
    users: usize,
    /// Registered domains.
    domains: usize,
    /// Rows that were imported before.
    already: u64,
    /// Whether only the commit is left.
    committing: bool,
}

impl BulkImport<'_> {
    fn insert(&mut self, conn: &mut Conn, batch: Vec<Row>) -> Result<(), Exit> {
        let owners = self.owners(conn, &batch)?;
        let (mut rows, mut domains) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for row in batch {
            let Some(user_id) = owners.get(&Username::key(&row.username)).copied() else {
                let why = if self.make_users {
                    "belongs to an account that no import created, or to a deleted account; if it is the right account, import this row without --make-users"
                } else {
                    "does not exist; --make-users creates missing users"
                };
                self.report.skip("line", row.line, &format!("the username {} {why}", row.username));
                continue;
            };
            let Row { line, username, host, plan, secret } = row;
            rows.push((line, username, secret.is_some()));
            let secret = secret.unwrap_or_else(ClientSecret::random);
            let id = DomainId::random();
            domains.push(import::ImportedDomain { id, user_id, host, plan, created_at: self.now, secret });
        }
        let outcomes = import::insert_domains(conn, &domains).map_err(failed)?;
        let mut entries = Vec::with_capacity(domains.len());
        for (((line, username, has_secret), domain), outcome) in iter::zip(iter::zip(rows, domains), outcomes) {
            let why = match outcome {
                ImportOutcome::Inserted => {
                    let detail = json!({ "host": domain.host.as_str(), "type": domain.plan.as_str() });
                    entries.push(self.event("domain.imported", domain.id, domain.user_id).with(detail));
                    if let Some(secrets) = self.secrets.as_mut().filter(|_| !has_secret) {
                        secrets.write(&username, &domain)?;
                    }
                    continue;
                }
                ImportOutcome::HostTaken if has_secret => "the user already has this host with another secret",
                ImportOutcome::HostTaken | ImportOutcome::SecretTaken => {
                    match find_existing(conn, &domain, has_secret)? {
                        Some(here) => {
                            self.already += 1;
                            self.report.compare("line", line, here.plan, domain.plan);
                            continue;
                        }
                        None => "another domain has this clientSecret",
                    }
                }
                ImportOutcome::HostVerified => "another user verified this host",
            };
            self.report.skip("line", line, why);
        }
        self.domains += entries.len();
        Audited::several((), entries).record(conn).map_err(failed)
    }

    /// The owners of the rows by the keys of their names.
    ///
    /// With `--make-users`, missing users are created, and accounts that no import created are left out, because
    /// another person may have signed up with the name.
    fn owners(&mut self, conn: &mut Conn, batch: &[Row]) -> Result<HashMap<String, UserId>, Exit> {
        let mut names: HashMap<String, &str> =
            batch.iter().map(|row| (Username::key(&row.username), row.username.as_str())).collect();
        let mut owners = user::ids_by_name(conn, names.keys()).map_err(failed)?;
        if self.make_users {
            let made_before = import::known_of(conn, MADE_USERS, names.keys()).map_err(failed)?;
            names.retain(|key, _| !owners.contains_key(key));
            owners.retain(|key, id| made_before.get(key) == Some(&id.to_string()));
            let new = names.into_values().map(|name| {
                let signup = Signup::parse(name, None).map_err(failed)?;
                Ok(signup.with_hash(password::unusable(self.config.bcrypt_cost), self.now))
            });
            let new: Vec<NewUser> = new.collect::<Result<_, Exit>>()?;
            let made = import::insert_users(conn, &new).map_err(failed)?;
            let entries = made.values().map(|id| self.event("user.imported", id, *id)).collect();
            Audited::several((), entries).record(conn).map_err(failed)?;
            let numbers: Vec<_> = made.iter().map(|(key, id)| (key.clone(), id.to_string())).collect();
            import::remember(conn, MADE_USERS, &numbers).map_err(failed)?;
            self.users += made.len();
            owners.extend(made);
        }
        Ok(owners)
    }

    fn event(&self, action: &'static str, target: impl ToString, tenant: UserId) -> Entry {
        Actor::OPERATOR.event(action, target, Some(tenant), self.now)
    }

    /// Syncs the file of secrets before the commit. The audit rows were already written per batch.
    fn finish(&mut self) -> Result<Audited<()>, Exit> {
        if let Some(secrets) = &mut self.secrets {
            secrets.finish()?;
        }
        self.committing = true;
        Ok(Audited::nothing(()))
    }
}

/// The domain that an earlier import or an earlier row registered for the same row. If the row has a secret, the domain
/// must have it too.
fn find_existing(
    conn: &mut Conn,
    new: &import::ImportedDomain,
    has_secret: bool,
) -> Result<Option<domain::DomainRow>, Exit> {
    let Some(here) = domain::find_by_host(conn, new.user_id, &new.host).map_err(failed)? else {
        return Ok(None);
    };
    let is_same = !has_secret || secret::find(conn, new.secret.digest()).map_err(failed)? == Some(here.id);
    Ok(is_same.then_some(here))
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

    fn write(&mut self, username: &str, domain: &import::ImportedDomain) -> Result<(), Exit> {
        self.written += 1;
        self.record([username, domain.host.as_str(), domain.id.as_str(), domain.secret.reveal()])
    }

    fn record(&mut self, fields: [&str; 4]) -> Result<(), Exit> {
        self.writer.write_record(fields).map_err(|error| self.cannot_write(&error))
    }

    /// Syncs the file. It must be on disk before the database has the digests, from which no secret can be recovered.
    fn finish(&mut self) -> Result<(), Exit> {
        let written = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        written.map_err(|error| self.cannot_write(&error))
    }

    fn cannot_write(&self, error: &dyn std::fmt::Display) -> Exit {
        Exit::cannot_create(format!("cannot write {}: {error}; nothing was changed", self.path.display()))
    }

    /// Removes the file if its secrets belong to no domain.
    fn discard(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
