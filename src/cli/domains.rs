//! `gatebird domain`: manages domains.

use clap::{Args, Subcommand};
use serde_json::json;

use super::operator::{Operator, or_missing, state};
use super::users::unknown_user;
use crate::actions::domains::{self, Allowed};
use crate::actions::{ByOperator, accounts, secrets};
use crate::config::{self, Config};
use crate::db::Conn;
use crate::db::audit::Audited;
use crate::db::domain::{self, DomainRow, NewDomain};
use crate::error;
use crate::exit::Exit;
use crate::id::DomainId;
use crate::secret::ClientSecret;

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
    fn parse(&self, config: &Config) -> error::Result<Allowed> {
        let list = |text: &String| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Ok(Allowed {
            scopes: self.scopes.as_ref().map(|text| domains::scopes(&list(text), config)).transpose()?,
            audiences: self.audiences.as_ref().map(|text| domains::audiences(&list(text), config)).transpose()?,
        })
    }
}

impl Operator {
    pub(super) fn domain(&self, command: DomainCommand) -> Result<(), Exit> {
        match command {
            DomainCommand::Add { host, user, plan, allowed } => {
                let host = domains::host(&host, self.config.local_hosts)?;
                let plan = domains::plan(&plan)?;
                let Allowed { scopes, audiences } = allowed.parse(&self.config)?;
                let new = NewDomain { host, plan, scopes, audiences, jwks: None };
                let (domain, secret) = self.change(|conn| {
                    let owner = accounts::find(conn, &user).map_err(or_missing(|| unknown_user(&user)))?.tenant.id;
                    domains::add(conn, self.by(), owner, &new, &self.config).map_err(Exit::from)
                })?;
                let secret = secret.ok_or_else(|| Exit::software("a domain without keys has a secret"))?;
                self.show_secret(&domain, &secret)
            }
            DomainCommand::List => {
                let domains = self.read(domain::list_all)?;
                let show = |(domain, owner): &(DomainRow, String)| {
                    let DomainRow { host, suspended, dormant, created_at, scopes, audiences, .. } = domain;
                    let (id, plan) = (domain.id.as_str(), domain.plan.as_str());
                    let state = if *dormant && !suspended { "dormant" } else { state(*suspended) };
                    let value = json!({ "id": id, "host": host, "type": plan, "user": owner, "suspended": suspended, "dormant": dormant, "createdAt": created_at, "scopes": scopes, "audiences": audiences, "hasKeys": domain.jwks.is_some() });
                    (value, format!("{id} {host:<30} {plan:<8} {owner:<20} {state}"))
                };
                self.out.print_list(&domains, show, "")
            }
            DomainCommand::Suspend(DomainArg { id }) => self.suspend_domain(&id, true),
            DomainCommand::Resume(DomainArg { id }) => self.suspend_domain(&id, false),
            DomainCommand::Unverify(DomainArg { id }) => {
                let (DomainRow { host, .. }, is_ended) = self.change_domain(&id, domains::unverify)?;
                if !is_ended {
                    return Err(Exit::usage(format!("{id} ({host}) is not verified")));
                }
                let value = json!({ "id": id, "host": host, "verified": false });
                self.out.print_changed(&value, &format!("{id} ({host}) is no longer verified"))
            }
            DomainCommand::Plan { domain: DomainArg { id }, plan } => {
                let plan = domains::plan(&plan)?;
                let set = |conn: &mut Conn, by, id| domains::set_plan(conn, by, id, plan);
                let DomainRow { host, .. } = self.change_domain(&id, set)?;
                let plan = plan.as_str();
                self.out.print_changed(&json!({ "id": id, "type": plan }), &format!("{id} ({host}) is {plan}"))
            }
            DomainCommand::Allow { domain: DomainArg { id }, all, allowed } => {
                let allowed = allowed.parse(&self.config)?;
                let allow = |conn: &mut Conn, by, id| domains::allow(conn, by, id, allowed, all);
                let DomainRow { host, scopes, audiences, .. } = self.change_domain(&id, allow)?;
                let value = json!({ "id": id, "scopes": scopes, "audiences": audiences });
                let [scopes, audiences] = [scopes, audiences].map(|limit| limit.unwrap_or_else(|| "(all)".to_owned()));
                let line = format!("{id} ({host}) may have scopes: {scopes}; audiences: {audiences}");
                self.out.print_changed(&value, &line)
            }
            DomainCommand::Rotate { domain: DomainArg { id }, grace } => {
                let grace = config::grace(&grace).map_err(|problem| Exit::usage(format!("--grace {problem}")))?;
                let rotate = |conn: &mut Conn, by, id| secrets::rotate_any(conn, by, id, grace);
                let (domain, secret) = self.change_domain(&id, rotate)?;
                self.show_secret(&domain, &secret)
            }
        }
    }

    fn suspend_domain(&self, id: &str, suspended: bool) -> Result<(), Exit> {
        let suspend = |conn: &mut Conn, by, id| domains::suspend(conn, by, id, suspended);
        let DomainRow { host, .. } = self.change_domain(id, suspend)?;
        let value = json!({ "id": id, "suspended": suspended });
        self.out.print_changed(&value, &format!("{id} ({host}) is {}", state(suspended)))
    }

    /// Makes a change of one domain.
    fn change_domain<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Conn, ByOperator, DomainId) -> error::Result<Audited<T>>,
    ) -> Result<T, Exit> {
        let unknown = || Exit::usage(format!("there is no domain {id:?}; see: gatebird domain list"));
        let known = DomainId::parse(id).ok_or_else(unknown)?;
        self.change(|conn| change(conn, self.by(), known).map_err(or_missing(unknown)))
    }

    fn show_secret(&self, DomainRow { id, host, .. }: &DomainRow, secret: &ClientSecret) -> Result<(), Exit> {
        let value = json!({ "id": id.as_str(), "host": host, "clientSecret": secret.reveal() });
        let lines = format!("{id} ({host})\nclient secret, shown only now: {}", secret.reveal());
        let otherwise =
            format!("a client secret of {id} ({host}) was made and is lost; make another: gatebird domain rotate {id}");
        self.out.print_secret(&value, &lines, &otherwise)
    }
}
