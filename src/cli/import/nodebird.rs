//! `gatebird import nodebird`: imports users with their passwords and domains with their client secrets, so that clients only
//! have to change the host name.

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;

use super::super::operator::Operator;
use super::export::{self, Export};
use super::{Report, failed, open};
use crate::actions::accounts::Signup;
use crate::app;
use crate::app::bounds::check_stored;
use crate::config::Config;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::import::{self, BATCH_SIZE, ImportOutcome};
use crate::db::user::{self, NewUser};
use crate::db::{Conn, domain, secret};
use crate::exit::Exit;
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::locale::Locale;
use crate::name::{Nick, Username};
use crate::password::{self, PlainHash};
use crate::plan::Plan;

pub(super) fn import(operator: &Operator, path: &Path, source: &str) -> Result<(), Exit> {
    if source.len() > 20 || Username::parse(&format!("{source}-1")).is_err() {
        return Err(Exit::usage("--source must have at most 20 letters, digits or . _ - + @"));
    }
    let Export { users, domains } = Export::read(open(path)?)?;
    let mut state = NodebirdImport {
        config: &operator.config,
        source,
        now: app::system_time(),
        report: Report::new(operator.out),
        entries: Vec::new(),
        imported: Counts::default(),
        already: Counts::default(),
    };
    operator.change(|conn| -> Result<_, Exit> {
        import::begin(conn).map_err(failed)?;
        let owners = state.users(conn, users)?;
        state.domains(conn, domains, &owners)?;
        check_stored(conn, &operator.config).map_err(failed)?;
        Ok(Audited::several((), std::mem::take(&mut state.entries)))
    })?;
    let NodebirdImport { report, imported, already, .. } = state;
    let sums = json!({ "imported": imported.json(), "already": already.json(), "skipped": report.skipped });
    let line = format!("imported {imported}; imported before {already}; skipped {}", report.skipped);
    report.print(&sums, &line, imported.all() + already.all())
}

#[derive(Default)]
struct Counts {
    users: u64,
    domains: u64,
    secrets: u64,
}

impl Counts {
    fn all(&self) -> u64 {
        self.users + self.domains + self.secrets
    }

    fn json(&self) -> serde_json::Value {
        json!({ "users": self.users, "domains": self.domains, "secrets": self.secrets })
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users, {} domains, {} additional secrets", self.users, self.domains, self.secrets)
    }
}

/// The users by their ids in the other system, or the reason why their domains are skipped.
type Owners = HashMap<u32, Result<UserId, &'static str>>;

/// The state of an import.
struct NodebirdImport<'a> {
    config: &'a Config,
    source: &'a str,
    /// Unix seconds.
    now: i64,
    report: Report,
    entries: Vec<Entry>,
    imported: Counts,
    already: Counts,
}

impl NodebirdImport<'_> {
    /// The source in `imports` of a table of the other system.
    fn table(&self, name: &str) -> String {
        format!("{}:{name}", self.source)
    }

    /// Imports the users, and finds those of earlier imports.
    fn users(&mut self, conn: &mut Conn, users: Vec<export::User>) -> Result<Owners, Exit> {
        let known = import::known(conn, &self.table("users")).map_err(failed)?;
        let here = if known.is_empty() { HashMap::new() } else { user::by_public_id(conn).map_err(failed)? };
        let mut owners = Owners::new();
        let mut new = Vec::new();
        for user in users {
            if let Some(target) = known.get(&user.id.to_string()) {
                let found = here.get(target).copied();
                if found.is_some_and(|(_, created_at)| user.created_at.is_some_and(|there| there != created_at)) {
                    return Err(Exit::data(format!(
                        "user {} was imported from {:?} before and was a different user; use another --source for another system; nothing was changed",
                        user.id, self.source
                    )));
                }
                self.already.users += 1;
                owners.insert(user.id, found.map(|(id, _)| id).ok_or("its user was deleted here"));
            } else if user.deleted {
                self.report.skip("user", user.id.into(), "it was deleted there");
                owners.insert(user.id, Err("its user was deleted there"));
            } else {
                new.push(user);
            }
        }
        for batch in new.chunks(BATCH_SIZE) {
            self.insert_users(conn, batch, &mut owners)?;
        }
        Ok(owners)
    }

    fn insert_users(&mut self, conn: &mut Conn, batch: &[export::User], owners: &mut Owners) -> Result<(), Exit> {
        let rows: Vec<NewUser> = batch.iter().map(|user| self.row(user)).collect::<Result<_, _>>()?;
        let mut made = import::insert_users(conn, &rows).map_err(failed)?;
        let mut numbers = Vec::new();
        for (user, row) in batch.iter().zip(rows) {
            // Removed, so that the first of two users with the same name gets it.
            let Some(id) = made.remove(&row.username_key) else {
                let why = format!("the username {} is taken by another account", row.username);
                self.report.skip("user", user.id.into(), &why);
                owners.insert(user.id, Err("its user was skipped"));
                continue;
            };
            self.report_changes(user, &row);
            self.event("user.imported", id, id, user.id);
            numbers.push((user.id.to_string(), id.to_string()));
            owners.insert(user.id, Ok(id));
            self.imported.users += 1;
        }
        import::remember(conn, &self.table("users"), &numbers).map_err(failed)
    }

    fn row(&self, user: &export::User) -> Result<NewUser, Exit> {
        let username = self.username(user);
        let nick = Nick::cleaned(&user.nick).map_or_else(|| username.clone(), Nick::into_string);
        let signup = Signup::parse(&username, Some(&nick)).map_err(failed)?;
        let hash = user.password.clone().map(PlainHash::into_stored);
        let hash = hash.unwrap_or_else(|| password::unusable(self.config.bcrypt_cost));
        Ok(signup.with_hash(hash, user.created_at.unwrap_or(self.now)))
    }

    /// The username: the e-mail address if it is a valid name, or else the provider with its id, or else the id.
    fn username(&self, user: &export::User) -> String {
        let elsewhere = format!("{}-{}", user.provider, user.sns_id);
        let named = [&user.email, &elsewhere].into_iter().enumerate().find(|(number, name)| {
            let given = *number == 0 || (user.provider != "local" && !user.sns_id.is_empty());
            given && Username::parse(name).is_ok()
        });
        named.map_or_else(|| format!("{}-{}", self.source, user.id), |(_, name)| name.clone())
    }

    fn report_changes(&mut self, user: &export::User, row: &NewUser) {
        let mut changes = Vec::new();
        if row.username != user.email {
            changes.push(format!("{:?} is not a valid username, which is now {}", user.email, row.username));
        }
        if row.nick != user.nick {
            changes.push(format!("{:?} is not a valid nick, which is now {}", user.nick, row.nick));
        }
        if user.password.is_none() {
            let set = format!("set one with: gatebird user password {}", row.username);
            changes.push(format!("it has no usable password ({}); {set}", user.provider));
        }
        if !changes.is_empty() {
            self.report.note("user", user.id.into(), &changes.join("; "));
        }
    }

    fn domains(&mut self, conn: &mut Conn, domains: Vec<export::Domain>, owners: &Owners) -> Result<(), Exit> {
        let known = import::known(conn, &self.table("domains")).map_err(failed)?;
        let mut new = Vec::new();
        for row in domains {
            let number = row.id;
            if let Some(target) = known.get(&number.to_string()) {
                self.already.domains += 1;
                let here = DomainId::parse(target).map(|id| domain::find_any(conn, id)).transpose().map_err(failed)?;
                if let (Some(Some(here)), Some(there)) = (here, Plan::parse(&row.plan)) {
                    self.report.compare("domain", number.into(), here.plan, there);
                }
                continue;
            }
            match self.domain(row, owners) {
                Ok(row) => new.push((number, row)),
                Err(why) => self.report.skip("domain", number.into(), &why),
            }
        }
        while !new.is_empty() {
            let rest = new.split_off(BATCH_SIZE.min(new.len()));
            let (numbers, rows) = std::mem::replace(&mut new, rest).into_iter().unzip();
            self.insert_domains(conn, numbers, rows)?;
        }
        Ok(())
    }

    /// The row to insert, or the reason why the domain is skipped.
    fn domain(&mut self, domain: export::Domain, owners: &Owners) -> Result<import::ImportedDomain, String> {
        if domain.deleted {
            return Err("it was deleted there".to_owned());
        }
        let user = domain.user.and_then(|user| owners.get(&user)).ok_or("it has no user")?;
        let user_id = (*user)?;
        let host_part = host_part(&domain.host);
        let host = Host::parse(host_part, self.config.local_hosts);
        let host = host.map_err(|problem| format!("host {:?}: {}", domain.host, problem.text(Locale::En)))?;
        let plan = Plan::parse(&domain.plan).ok_or_else(|| format!("there is no type {:?}", domain.plan))?;
        let secret = domain.secret.ok_or("its client secret is not a UUID")?;
        if host_part != domain.host {
            self.report.note("domain", domain.id.into(), &format!("host {:?} is now {host}", domain.host));
        }
        let created_at = domain.created_at.unwrap_or(self.now);
        Ok(import::ImportedDomain { id: DomainId::random(), user_id, host, plan, created_at, secret })
    }

    fn insert_domains(
        &mut self,
        conn: &mut Conn,
        ids: Vec<u32>,
        rows: Vec<import::ImportedDomain>,
    ) -> Result<(), Exit> {
        let outcomes = import::insert_domains(conn, &rows).map_err(failed)?;
        let mut numbers = Vec::new();
        for ((number, row), outcome) in ids.into_iter().zip(rows).zip(outcomes) {
            let here = match outcome {
                ImportOutcome::Inserted => {
                    self.event("domain.imported", row.id, row.user_id, number);
                    self.imported.domains += 1;
                    Ok(row.id)
                }
                ImportOutcome::HostTaken => self.add_secret(conn, number, &row)?,
                ImportOutcome::SecretTaken => Err("another domain has the same client secret".to_owned()),
                ImportOutcome::HostVerified => Err(format!("another user verified {}", row.host)),
            };
            match here {
                Ok(id) => numbers.push((number.to_string(), id.to_string())),
                Err(why) => self.report.skip("domain", number.into(), &why),
            }
        }
        import::remember(conn, &self.table("domains"), &numbers).map_err(failed)
    }

    /// Adds the secret to the domain of the same user and host: a host that was registered twice becomes one domain
    /// with both secrets, so that each client keeps working.
    fn add_secret(
        &mut self,
        conn: &mut Conn,
        number: u32,
        row: &import::ImportedDomain,
    ) -> Result<Result<DomainId, String>, Exit> {
        let domain = domain::find_by_host(conn, row.user_id, &row.host).map_err(failed)?;
        let domain = domain.ok_or_else(|| Exit::software("a taken host must have a domain"))?;
        if domain.jwks.is_some() {
            return Ok(Err(format!("{} is already registered with keys", row.host)));
        }
        secret::insert(conn, domain.id, &row.secret, Actor::OPERATOR, row.created_at).map_err(failed)?;
        self.event("secret.imported", domain.id, row.user_id, number);
        self.imported.secrets += 1;
        let plan =
            if domain.plan == row.plan { String::new() } else { format!(", which stays {}", domain.plan.as_str()) };
        let what = format!("its user already has {}: its secret is added to {}{plan}", row.host, domain.id);
        self.report.note("domain", number.into(), &what);
        Ok(Ok(domain.id))
    }

    fn event(&mut self, action: &'static str, target: impl ToString, tenant: UserId, number: u32) {
        let entry = Actor::OPERATOR.event(action, target, Some(tenant), self.now);
        self.entries.push(entry.with(json!({ "source": self.source, "number": number })));
    }
}

/// The host of a text such as `http://shop.example.com/`, which the other system accepted.
fn host_part(host: &str) -> &str {
    let host = host.trim();
    let host = ["https://", "http://"].iter().find_map(|scheme| host.strip_prefix(scheme)).unwrap_or(host);
    host.split('/').next().unwrap_or(host)
}
