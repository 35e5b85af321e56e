//! `gatebird import nodebird`: imports users with their passwords and domains with their client secrets, so that clients only
//! have to change the host name.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::super::operator::Operator;
use super::export::{self, Export};
use super::{Import, open, plan};
use crate::actions::accounts::Signup;
use crate::app::bounds::check_stored;
use crate::db::audit::{Actor, Audited};
use crate::db::import::{self, BATCH_SIZE, ImportOutcome, ImportedDomain};
use crate::db::user::{self, NewUser};
use crate::db::{Conn, domain, secret};
use crate::exit::Exit;
use crate::id::{DomainId, UserId};
use crate::name::{Nick, Username};
use crate::password::{self, PlainHash};
use crate::plan::Plan;
use crate::secret::ClientSecret;

pub(super) fn import(operator: &Operator, path: &Path, source: &str) -> Result<(), Exit> {
    if source.len() > 20 || Username::parse(&format!("{source}-1")).is_err() {
        return Err(Exit::usage("--source must have at most 20 letters, digits or . _ - + @"));
    }
    let Export { users, domains } = Export::read(open(path)?)?;
    let mut state = NodebirdImport {
        import: Import::new(operator),
        source,
        owners: HashMap::new(),
        imported: Counts::default(),
        already: Counts::default(),
    };
    operator.change_or_exit(|conn| {
        import::begin(conn)?;
        state.users(conn, users)?;
        state.domains(conn, domains)?;
        check_stored(conn, &operator.config)?;
        Ok(Audited::several((), std::mem::take(&mut state.import.entries)))
    })?;
    let NodebirdImport { import, imported, already, .. } = state;
    let sums = json!({ "imported": imported, "already": already, "skipped": import.skipped });
    let line = format!("imported {imported}; imported before {already}; skipped {}", import.skipped);
    import.print(&sums, &line, imported.all() + already.all())
}

#[derive(Default, Serialize)]
struct Counts {
    users: u64,
    domains: u64,
    secrets: u64,
}

impl Counts {
    fn all(&self) -> u64 {
        self.users + self.domains + self.secrets
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users, {} domains, {} additional secrets", self.users, self.domains, self.secrets)
    }
}

/// The state of an import.
struct NodebirdImport<'a> {
    import: Import<'a>,
    source: &'a str,
    /// The users by their ids in the other system, or the reason why their domains are skipped.
    owners: HashMap<u32, Result<UserId, &'static str>>,
    imported: Counts,
    already: Counts,
}

impl NodebirdImport<'_> {
    /// The source in `imports` of a table of the other system.
    fn table(&self, name: &str) -> String {
        format!("{}:{name}", self.source)
    }

    /// Imports the users, and finds those of earlier imports.
    fn users(&mut self, conn: &mut Conn, users: Vec<export::User>) -> Result<(), Exit> {
        let known = import::known(conn, &self.table("users"))?;
        let here = if known.is_empty() { HashMap::new() } else { user::by_public_id(conn)? };
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
                self.owners.insert(user.id, found.map(|(id, _)| id).ok_or("its user was deleted here"));
            } else if user.deleted_at.is_some() {
                self.import.skip("user", user.id, "it was deleted there");
                self.owners.insert(user.id, Err("its user was deleted there"));
            } else {
                new.push(user);
            }
        }
        new.chunks(BATCH_SIZE).try_for_each(|batch| self.insert_users(conn, batch))
    }

    fn insert_users(&mut self, conn: &mut Conn, batch: &[export::User]) -> Result<(), Exit> {
        let rows: Vec<NewUser> = batch.iter().map(|user| self.row(user)).collect::<Result<_, _>>()?;
        let mut made = import::insert_users(conn, &rows)?;
        let mut numbers = Vec::new();
        for (user, row) in batch.iter().zip(rows) {
            // Removed, so that the first of two users with the same name gets it.
            let Some(id) = made.remove(&row.username_key) else {
                let why = format!("the username {} is taken by another account", row.username);
                self.import.skip("user", user.id, &why);
                self.owners.insert(user.id, Err("its user was skipped"));
                continue;
            };
            self.report_changes(user, &row);
            self.event("user.imported", id, id, user.id);
            numbers.push((user.id.to_string(), id.to_string()));
            self.owners.insert(user.id, Ok(id));
            self.imported.users += 1;
        }
        Ok(import::remember(conn, &self.table("users"), numbers)?)
    }

    fn row(&self, user: &export::User) -> Result<NewUser, Exit> {
        let username = self.username(user);
        let nick = Nick::cleaned(&user.nick).map_or_else(|| username.clone(), Nick::into_string);
        let hash = stored_hash(user).unwrap_or_else(|| password::unusable(self.import.config.bcrypt_cost));
        let signup = Signup::parse(&username, Some(&nick))?;
        Ok(signup.with_hash(hash, user.created_at.unwrap_or(self.import.now)))
    }

    /// The username: the e-mail address if it is a valid name, or else the provider with its id, or else the id.
    fn username(&self, user: &export::User) -> String {
        let elsewhere = user.provider != "local" && !user.sns_id.is_empty();
        let elsewhere = elsewhere.then(|| format!("{}-{}", user.provider, user.sns_id));
        let mut names = [Some(user.email.clone()), elsewhere].into_iter().flatten();
        names.find(|name| Username::parse(name).is_ok()).unwrap_or_else(|| format!("{}-{}", self.source, user.id))
    }

    fn report_changes(&mut self, user: &export::User, row: &NewUser) {
        let mut changes = Vec::new();
        if row.username != user.email {
            changes.push(format!("{:?} is not a valid username, which is now {}", user.email, row.username));
        }
        if row.nick != user.nick {
            changes.push(format!("{:?} is not a valid nick, which is now {}", user.nick, row.nick));
        }
        if stored_hash(user).is_none() {
            let set = format!("set one with: gatebird user password {}", row.username);
            changes.push(format!("it has no usable password ({}); {set}", user.provider));
        }
        if !changes.is_empty() {
            self.import.report("changed", "user", user.id, &changes.join("; "));
        }
    }

    /// Imports the domains. A domain of an earlier import keeps its plan.
    fn domains(&mut self, conn: &mut Conn, domains: Vec<export::Domain>) -> Result<(), Exit> {
        let known = import::known(conn, &self.table("domains"))?;
        let mut new = Vec::new();
        for row in domains {
            let number = row.id;
            if let Some(target) = known.get(&number.to_string()) {
                self.already.domains += 1;
                let here = DomainId::parse(target).map(|id| domain::find_any(conn, id)).transpose()?;
                if let (Some(Some(here)), Some(there)) = (here, Plan::parse(&row.plan)) {
                    self.import.compare("domain", number, here.plan, there);
                }
                continue;
            }
            match self.domain(row) {
                Ok(row) => new.push((number, row)),
                Err(why) => self.import.skip("domain", number, &why),
            }
            if new.len() == BATCH_SIZE {
                self.insert_domains(conn, std::mem::take(&mut new))?;
            }
        }
        self.insert_domains(conn, new)
    }

    /// The row to insert, or the reason why the domain is skipped.
    fn domain(&mut self, domain: export::Domain) -> Result<ImportedDomain, String> {
        if domain.deleted_at.is_some() {
            return Err("it was deleted there".to_owned());
        }
        let user_id = domain.user_id.and_then(|user| self.owners.get(&user).copied()).ok_or("it has no user")??;
        let host_part = host_part(&domain.host);
        let host = self.import.host(host_part)?;
        let plan = plan(&domain.plan)?;
        let secret = domain.client_secret.as_deref().and_then(ClientSecret::parse);
        let secret = secret.ok_or("its client secret is not a UUID")?;
        if host_part != domain.host {
            self.import.report("changed", "domain", domain.id, &format!("the host {:?} is now {host}", domain.host));
        }
        let created_at = domain.created_at.unwrap_or(self.import.now);
        Ok(ImportedDomain { id: DomainId::random(), user_id, host, plan, created_at, secret })
    }

    fn insert_domains(&mut self, conn: &mut Conn, new: Vec<(u32, ImportedDomain)>) -> Result<(), Exit> {
        let mut numbers = Vec::new();
        for (number, row, outcome) in import::insert_domains(conn, new)? {
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
                Err(why) => self.import.skip("domain", number, &why),
            }
        }
        Ok(import::remember(conn, &self.table("domains"), numbers)?)
    }

    /// Adds the secret to the domain of the same user and host: a host that was registered twice becomes one domain
    /// with both secrets, so that each client keeps working.
    fn add_secret(
        &mut self,
        conn: &mut Conn,
        number: u32,
        row: &ImportedDomain,
    ) -> Result<Result<DomainId, String>, Exit> {
        let domain = domain::find_by_host(conn, row.user_id, &row.host)?;
        let domain = domain.ok_or_else(|| Exit::software("a taken host must have a domain"))?;
        if domain.jwks.is_some() {
            return Ok(Err(format!("{} is already registered with keys", row.host)));
        }
        secret::insert(conn, domain.id, &row.secret, Actor::OPERATOR, row.created_at)?;
        self.event("secret.imported", domain.id, row.user_id, number);
        self.imported.secrets += 1;
        let plan =
            if domain.plan == row.plan { String::new() } else { format!(", which stays {}", domain.plan.as_str()) };
        let what = format!("its user already has {}: its secret is added to {}{plan}", row.host, domain.id);
        self.import.report("changed", "domain", number, &what);
        Ok(Ok(domain.id))
    }

    fn event(&mut self, action: &'static str, target: impl ToString, tenant: UserId, number: u32) {
        self.import.event(action, target, tenant, Some(json!({ "source": self.source, "number": number })));
    }
}

/// The hash to store; `None` if the user signs in with another provider or the hash is not bcrypt's.
fn stored_hash(user: &export::User) -> Option<String> {
    let hash = user.password.as_deref().filter(|_| user.provider == "local");
    hash.and_then(PlainHash::parse).map(PlainHash::into_stored)
}

/// The host of a text such as `http://shop.example.com/`, which the other system accepted.
fn host_part(host: &str) -> &str {
    let host = host.trim();
    let host = ["https://", "http://"].iter().find_map(|scheme| host.strip_prefix(scheme)).unwrap_or(host);
    host.split('/').next().unwrap_or(host)
}
