//! The operator's commands for users and domains, which write to the database that running servers use.

use std::io::{self, IsTerminal};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Output;
use crate::actions::accounts::Signup;
use crate::actions::{conflict_on, domains, secrets};
use crate::app;
use crate::app::bounds::check_stored;
use crate::config::{self, Config};
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::domain::{DomainRow, NewDomain};
use crate::db::{Conn, Db, domain, dormancy, user, verified_host};
use crate::error::{self, Error};
use crate::exit::Exit;
use crate::id::DomainId;
use crate::locale::Message;
use crate::name::Username;
use crate::password::{self, NewPassword};
use crate::secret::ClientSecret;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create an account. The password is asked for, or read from standard input.
    Add {
        username: String,
        /// The user's display name. Defaults to the username.
        #[arg(long)]
        nick: Option<String>,
    },
    /// Set a user's password, which is asked for, or read from standard input. Revokes every earlier token of the user
    /// and of the user's domains.
    Password { username: String },
    /// List all users.
    List,
    /// Suspend a user. Revokes the tokens of the user and of the user's domains at once.
    Suspend { username: String },
    /// Resume a suspended user. Earlier tokens stay revoked.
    Resume { username: String },
}

impl UserCommand {
    pub(super) fn creates(&self) -> bool {
        matches!(self, UserCommand::Add { .. })
    }
}

#[derive(Subcommand)]
pub(super) enum DomainCommand {
    /// Register a domain for a user. Prints its client secret, which is never shown again.
    Add {
        host: String,
        /// The owner's username.
        #[arg(long)]
        user: String,
        /// The plan, such as premium.
        #[arg(long = "type", default_value = "free")]
        plan: String,
        #[command(flatten)]
        allowed: AllowedArgs,
    },
    /// List all domains.
    List,
    /// Suspend a domain. Revokes its tokens at once.
    Suspend(DomainArg),
    /// Resume a suspended domain. Earlier tokens stay revoked.
    Resume(DomainArg),
    /// End the verification of a domain's host. Earlier tokens are revoked. The owner can verify the host again.
    Unverify(DomainArg),
    /// Set a domain's plan, regardless of SELF_SERVICE_PREMIUM.
    Plan {
        #[command(flatten)]
        domain: DomainArg,
        /// The plan, such as premium.
        plan: String,
    },
    /// Restrict the scopes and audiences of a domain's new tokens. An option that is not given is left as it is.
    Allow {
        #[command(flatten)]
        domain: DomainArg,
        /// First remove all restrictions.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        allowed: AllowedArgs,
    },
    /// Create a new client secret. Prints it once.
    Rotate {
        #[command(flatten)]
        domain: DomainArg,
        /// How long the old secrets still work, such as 24h. 0 retires them and revokes all earlier tokens at once.
        #[arg(long, default_value = "24h")]
        grace: String,
    },
}

#[derive(Args)]
pub(super) struct DomainArg {
    /// The domain's public id: dom_...
    id: String,
}

#[derive(Args)]
pub(super) struct AllowedArgs {
    /// Scopes out of SCOPES, separated by spaces.
    #[arg(long)]
    scopes: Option<String>,
    /// Audiences out of AUDIENCES and the issuer, separated by spaces.
    #[arg(long)]
    audiences: Option<String>,
}

impl AllowedArgs {
    fn parse(&self, config: &Config) -> error::Result<(Option<String>, Option<String>)> {
        let list = |text: &String| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let scopes = self.scopes.as_ref().map(|text| domains::scopes(&list(text), config)).transpose()?;
        let audiences = self.audiences.as_ref().map(|text| domains::audiences(&list(text), config)).transpose()?;
        Ok((scopes, audiences))
    }
}

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
        if operator.db.was_restored_unserved().map_err(failed)? {
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
        self.db.close().map_err(failed)
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&mut Conn) -> error::Result<T>) -> Result<T, Exit> {
        self.db.read_now(work).map_err(exit)
    }

    pub(super) fn write<T>(&self, work: impl FnOnce(&mut Conn) -> error::Result<T>) -> Result<T, Exit> {
        self.db.check_rights()?;
        self.db.write_now(work).map_err(exit)
    }

    /// Runs a change with its audit row in one transaction.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Conn) -> error::Result<Audited<T>>) -> Result<T, Exit> {
        self.db.check_rights()?;
        self.db.change_now(|conn| work(conn)?.record(conn), |_| Ok(())).map_err(exit)
    }

    /// Like [`Operator::change`], for work that can fail with an exit message. Nothing is changed then.
    pub(super) fn change_or_exit<T>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>, Exit>,
    ) -> Result<T, Exit> {
        let mut end = None;
        let work = |conn: &mut Conn| {
            work(conn).map_err(|exit| {
                let error = Error::internal(&exit);
                end = Some(exit);
                error
            })
        };
        let changed = self.change(work);
        changed.map_err(|exit| end.unwrap_or(exit))
    }

    pub(super) fn user(&self, command: UserCommand) -> Result<(), Exit> {
        match command {
            UserCommand::Add { username, nick } => {
                let typed = read_password()?;
                let signup = Signup::parse(&username, nick.as_deref()).map_err(exit)?;
                let context = signup.context();
                let password = NewPassword::parse(&typed, &context.each_ref().map(String::as_str))
                    .map_err(|problem| exit(Error::field("password", problem)))?;
                let hash = password::hash_now(&password, self.config.bcrypt_cost).map_err(exit)?;
                let new = signup.with_hash(hash, app::system_time());
                let tenant = self.change(|conn| {
                    let tenant = user::insert(conn, &new);
                    let tenant = tenant.map_err(conflict_on("username", Message::UsernameTaken))?;
                    check_stored(conn, &self.config)?;
                    let entry = Actor::OPERATOR.event("user.added", tenant.id, Some(tenant.id), new.created_at);
                    Ok(Audited::new(tenant, entry))
                })?;
                let value = json!({ "id": tenant.id.get(), "username": *tenant.username, "nick": *tenant.nick });
                self.out.print_changed(&value, &format!("added user {} ({})", tenant.username, tenant.id.get()))
            }
            UserCommand::Password { username } => self.set_password(&username),
            UserCommand::List => {
                let users = self.read(|conn| Ok(user::list(conn)?))?;
                let values: Vec<Value> = users
                    .iter()
                    .map(|user| {
                        let tenant = &user.tenant;
                        json!({ "id": tenant.id.get(), "username": *tenant.username, "nick": *tenant.nick, "suspended": tenant.suspended, "createdAt": user.created_at })
                    })
                    .collect();
                let lines: Vec<String> = users
                    .iter()
                    .map(|user| {
                        let state = if user.tenant.suspended { "suspended" } else { "active" };
                        format!("{:>6} {:<40} {state}", user.tenant.id.get(), user.tenant.username)
                    })
                    .collect();
                self.out.print(&json!(values), &lines.join("\n"))
            }
            UserCommand::Suspend { username } => self.set_user(&username, true),
            UserCommand::Resume { username } => self.set_user(&username, false),
        }
    }

    fn set_password(&self, username: &str) -> Result<(), Exit> {
        let user = self.find_user(username)?;
        let (tenant, id) = (&user.tenant, user.tenant.id);
        let password = NewPassword::parse(&read_password()?, &[&tenant.username, &tenant.nick])
            .map_err(|problem| exit(Error::field("password", problem)))?;
        let hash = password::hash_now(&password, self.config.bcrypt_cost).map_err(exit)?;
        let set = self.change(|conn| {
            if user::set_password(conn, id, &user.password_hash, &hash)? {
                let entry = Actor::OPERATOR.event("user.password_changed", id, Some(id), app::system_time());
                Ok(Audited::new(true, entry))
            } else {
                Ok(Audited::nothing(false))
            }
        })?;
        if !set {
            return Err(Exit::unavailable("the user changed the password at the same time; try again"));
        }
        self.out
            .print_changed(&json!({ "username": *tenant.username }), &format!("{} has a new password", tenant.username))
    }

    fn set_user(&self, username: &str, suspended: bool) -> Result<(), Exit> {
        let tenant = self.change_or_exit(|conn| {
            let tenant = find_user(conn, username)?.tenant;
            let action = if suspended { "user.suspended" } else { "user.resumed" };
            user::set_suspended(conn, tenant.id, suspended).map_err(failed)?;
            let entry = Actor::OPERATOR.event(action, tenant.id, Some(tenant.id), app::system_time());
            Ok(Audited::new(tenant, entry))
        })?;
        let state = if suspended { "suspended" } else { "active" };
        self.out.print_changed(
            &json!({ "username": *tenant.username, "suspended": suspended }),
            &format!("{} is {state}", tenant.username),
        )
    }

    pub(super) fn find_user(&self, username: &str) -> Result<user::UserRow, Exit> {
        self.read(|conn| Ok(find_user(conn, username)))?
    }

    pub(super) fn domain(&self, command: DomainCommand) -> Result<(), Exit> {
        match command {
            DomainCommand::Add { host, user, plan, allowed } => {
                let host = domains::host(&host, self.config.local_hosts).map_err(exit)?;
                let plan = domains::plan(&plan).map_err(exit)?;
                let now = app::system_time();
                let (scopes, audiences) = allowed.parse(&self.config).map_err(exit)?;
                let new = NewDomain { host, plan, scopes, audiences, jwks: None };
                let (domain, secret) = self.change_or_exit(|conn| {
                    let owner = find_user(conn, &user)?.tenant.id;
                    let added = domains::register_row(conn, Actor::OPERATOR, owner, &new, now).map_err(exit)?;
                    check_stored(conn, &self.config).map_err(exit)?;
                    Ok(added)
                })?;
                let secret = secret.ok_or_else(|| Exit::software("a domain without keys has a secret"))?;
                self.show_secret(domain.id, &domain.host, &secret)
            }
            DomainCommand::List => {
                let domains = self.read(|conn| Ok(domain::list_all(conn)?))?;
                let values: Vec<Value> = domains
                    .iter()
                    .map(|(domain, owner)| json!({ "id": domain.id.as_str(), "host": domain.host, "type": domain.plan.as_str(), "user": owner, "suspended": domain.suspended, "dormant": domain.dormant, "createdAt": domain.created_at, "scopes": domain.scopes, "audiences": domain.audiences, "hasKeys": domain.jwks.is_some() }))
                    .collect();
                let lines: Vec<String> = domains
                    .iter()
                    .map(|(domain, owner)| {
                        let state = match domain {
                            DomainRow { suspended: true, .. } => "suspended",
                            DomainRow { dormant: true, .. } => "dormant",
                            _ => "active",
                        };
                        format!("{} {:<30} {:<8} {:<20} {state}", domain.id, domain.host, domain.plan.as_str(), owner)
                    })
                    .collect();
                self.out.print(&json!(values), &lines.join("\n"))
            }
            DomainCommand::Suspend(DomainArg { id }) => self.set_domain(&id, true),
            DomainCommand::Resume(DomainArg { id }) => self.set_domain(&id, false),
            DomainCommand::Unverify(DomainArg { id }) => {
                let (domain, is_ended) = self.change_domain(&id, |conn, domain| {
                    if verified_host::end(conn, domain.id)? {
                        Ok(Audited::new(true, event("domain.unverified", domain)))
                    } else {
                        Ok(Audited::nothing(false))
                    }
                })?;
                if !is_ended {
                    return Err(Exit::usage(format!("{id} ({}) is not verified", domain.host)));
                }
                self.out.print_changed(
                    &json!({ "id": id, "host": domain.host, "verified": false }),
                    &format!("{id} ({}) is no longer verified", domain.host),
                )
            }
            DomainCommand::Plan { domain, plan } => {
                let plan = domains::plan(&plan).map_err(exit)?;
                let (domain, ()) = self.change_domain(&domain.id, |conn, domain| {
                    domain::set_plan(conn, domain.user_id, domain.id, plan)?;
                    Ok(Audited::new((), event("domain.changed", domain).with(json!({ "type": plan.as_str() }))))
                })?;
                self.out.print_changed(
                    &json!({ "id": domain.id.as_str(), "type": plan.as_str() }),
                    &format!("{} ({}) is {}", domain.id, domain.host, plan.as_str()),
                )
            }
            DomainCommand::Allow { domain, all, allowed } => {
                let (scopes, audiences) = allowed.parse(&self.config).map_err(exit)?;
                let (domain, (scopes, audiences)) = self.change_domain(&domain.id, |conn, domain| {
                    let or_as_before = |given: Option<String>, before: &Option<String>| {
                        given.or_else(|| before.clone().filter(|_| !all))
                    };
                    let scopes = or_as_before(scopes, &domain.scopes);
                    let audiences = or_as_before(audiences, &domain.audiences);
                    domain::set_allowed(conn, domain.id, scopes.as_deref(), audiences.as_deref())?;
                    let entry = event("domain.allowed", domain);
                    let entry = entry.with(json!({ "scopes": scopes, "audiences": audiences }));
                    Ok(Audited::new((scopes, audiences), entry))
                })?;
                let shown = |limit: &Option<String>| limit.clone().unwrap_or_else(|| "(all)".to_owned());
                let DomainRow { id, host, .. } = domain;
                let line =
                    format!("{id} ({host}) may have scopes: {}; audiences: {}", shown(&scopes), shown(&audiences));
                self.out.print_changed(&json!({ "id": id.as_str(), "scopes": scopes, "audiences": audiences }), &line)
            }
            DomainCommand::Rotate { domain, grace } => {
                let seconds = config::grace(&grace).map_err(|problem| Exit::usage(format!("--grace {problem}")))?;
                let (domain, (_, new)) = self.change_domain(&domain.id, |conn, domain| {
                    secrets::rotate_row(conn, Actor::OPERATOR, domain, seconds, app::system_time())
                })?;
                self.show_secret(domain.id, &domain.host, &new)
            }
        }
    }

    fn set_domain(&self, id: &str, suspended: bool) -> Result<(), Exit> {
        let action = if suspended { "domain.suspended" } else { "domain.resumed" };
        let (domain, ()) = self.change_domain(id, |conn, domain| {
            domain::set_suspended(conn, domain.id, suspended)?;
            Ok(Audited::new((), event(action, domain)))
        })?;
        let state = if suspended { "suspended" } else { "active" };
        self.out
            .print_changed(&json!({ "id": id, "suspended": suspended }), &format!("{id} ({}) is {state}", domain.host))
    }

    /// Runs `work` with the locked row of a domain.
    fn change_domain<T>(
        &self,
        id: &str,
        work: impl FnOnce(&mut Conn, &DomainRow) -> error::Result<Audited<T>>,
    ) -> Result<(DomainRow, T), Exit> {
        let unknown = || Exit::usage(format!("there is no domain {id:?}; see: gatebird domain list"));
        let id = DomainId::parse(id).ok_or_else(unknown)?;
        self.change_or_exit(|conn| {
            let domain = domain::find_any(conn, id).map_err(failed)?.ok_or_else(unknown)?;
            dormancy::wake(conn, id).map_err(failed)?;
            let changed = work(conn, &domain).map_err(exit)?;
            Ok(changed.map(|value| (domain, value)))
        })
    }

    fn show_secret(&self, id: DomainId, host: &str, secret: &ClientSecret) -> Result<(), Exit> {
        let value = json!({ "id": id.as_str(), "host": host, "clientSecret": secret.reveal() });
        let lines = format!("{id} ({host})\nclient secret, shown only now: {}", secret.reveal());
        let otherwise =
            format!("a client secret of {id} ({host}) was made and is lost; make another: gatebird domain rotate {id}");
        self.out.print_secret(&value, &lines, &otherwise)
    }
}

/// An audit entry for an action of the operator on a domain.
fn event(action: &'static str, domain: &DomainRow) -> Entry {
    Actor::OPERATOR.event(action, domain.id, Some(domain.user_id), app::system_time())
}

fn find_user(conn: &mut Conn, username: &str) -> Result<user::UserRow, Exit> {
    let found = user::find_by_name(conn, &Username::key(username)).map_err(failed)?;
    found.ok_or_else(|| Exit::usage(format!("there is no user {username:?}; see: gatebird user list")))
}

/// Reads a password: twice from the terminal without echo, or the first line of standard input.
fn read_password() -> Result<String, Exit> {
    let unreadable = |error| Exit::usage(format!("cannot read the password: {error}"));
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(unreadable)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first = rpassword::prompt_password("Password: ").map_err(unreadable)?;
    let second = rpassword::prompt_password("Again: ").map_err(unreadable)?;
    if first == second { Ok(first) } else { Err(Exit::usage("the two passwords differ")) }
}

/// The exit for a database error.
pub(super) fn failed(error: impl Into<Error>) -> Exit {
    exit(error.into())
}

/// The exit for an error: 64 for a wrong input, 69 for an unavailable database, 70 for an internal error.
pub(super) fn exit(error: Error) -> Exit {
    match &error {
        Error::Busy => Exit::unavailable("the database does not answer; try again"),
        Error::Internal(cause) => Exit::software(format!("failed: {cause}")),
        Error::Field { name, .. } => Exit::usage(format!("{name} {error}")),
        Error::UnknownPlan(_) => Exit::usage(format!("type {error}")),
        Error::Taken { name, .. } => Exit::usage(format!("{name} {error}")),
        _ => Exit::usage(error.to_string()),
    }
}
