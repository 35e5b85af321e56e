//! The running gate: settings, database, directory and keys. A process starts one [`App`], which all workers share.

mod background;
pub(crate) mod bounds;
mod flush;
pub mod keys;
pub mod leaks;
mod maintenance;
mod removal;
mod revocations;
mod secret_file;
mod sync;
mod time;
pub(crate) mod verification;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::web;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::keys::NewKey;
use self::leaks::Leaks;
pub(crate) use self::maintenance::{KNOWN_NETWORK, USAGE_DAYS};
use self::revocations::Revocations;
pub(crate) use self::revocations::Revoker;
pub(crate) use self::secret_file::root_secret;
pub use self::time::Clock;
pub(crate) use self::time::system_time;
use self::time::{Started, SubstituteTime, SystemClock, TrustedTime};
use self::verification::HostChecks;
pub use self::write::{Caller, InForce, TokenCaller};
use crate::config::{ACCOUNT_SUFFIX, Config, Database};
use crate::connections::Connections;
use crate::db::audit::Entry;
pub(crate) use crate::db::audit::{Actor, Who};
pub(crate) use crate::db::revocation::TokenGeneration;
use crate::db::used_assertion::UsedAssertion;
use crate::db::user::Tenant;
use crate::db::{Conn, Db, trusted_time};
use crate::directory::{ActiveClient, Directory};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::id::{DomainId, TokenId};
use crate::locale::Message;
use crate::logging::{self, LeftOut};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::password::Hasher;
use crate::shares::{Budget, Budgets};
use crate::token::replay::MAX_REMEMBERED;
use crate::token::{self, Claims, Kind};
use crate::usage::{self, Usage};

/// How long the process waits for its threads before it exits.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The running gate. The extractors find it in the application data of actix-web, as `web::Data<App>`.
///
/// [`server::serve`](crate::server::serve) starts one for a complete server. With one of your own, the extractors protect the
/// routes of any actix-web application:
///
/// ```no_run
/// use actix_web::{HttpServer, get};
/// use gatebird::{App, Bearer, Config};
///
/// #[get("/orders")]
/// async fn orders(token: Bearer) -> String {
///     format!("orders of user {}", token.tenant().get())
/// }
///
/// #[actix_web::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let gate = App::start(Config::read()?)?;
///     let data = gate.clone();
///     HttpServer::new(move || actix_web::App::new().app_data(data.clone()).service(orders))
///         .bind("127.0.0.1:8080")?
///         .run()
///         .await?;
///     gate.into_inner().close();
///     Ok(())
/// }
/// ```
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    #[doc(hidden)]
    pub db: Db,
    /// Users, domains, secrets and keys in memory, for requests that must not wait for the database.
    #[doc(hidden)]
    pub directory: Directory,
    /// Client secrets that a browser sent.
    pub(crate) leaks: Leaks,
    /// Hashes and checks passwords.
    pub(crate) hasher: Hasher,
    /// Counters and gauges.
    pub(crate) metrics: Metrics,
    /// Usage of domains that is not in the database yet.
    #[doc(hidden)]
    pub usage: Usage,
    /// Held while usage is written.
    writing_usage: Mutex<()>,
    failures: Outbox<Entry>,
    /// Used client assertions that the other nodes have yet to learn of.
    used_assertions: Outbox<UsedAssertion>,
    /// Rate limits of networks and accounts.
    #[doc(hidden)]
    pub budgets: Budgets,
    /// Access log lines that were not written, by network.
    pub(crate) left_out_lines: LeftOut,
    /// Open connections.
    pub(crate) connections: Connections,
    host_checks: HostChecks,
    revocations: Revocations,
    started: Started,
    clock: Box<dyn Clock>,
    time: Mutex<TrustedTime>,
    substitute: SubstituteTime,
    draining: AtomicBool,
    warned: bounds::Warned,
    /// Notified when this process must exit.
    end: Notify,
}

impl App {
    /// Opens the database, loads the directory and starts the background threads.
    ///
    /// # Errors
    /// When the process cannot serve safely; see [`Exit`].
    pub fn start(config: Config) -> std::result::Result<web::Data<App>, Exit> {
        App::start_with_clock(config, Box::new(SystemClock { started: Instant::now() }))
    }

    /// [`App::start`] with another clock.
    ///
    /// # Errors
    /// As [`App::start`].
    #[doc(hidden)]
    pub fn start_with_clock(config: Config, clock: Box<dyn Clock>) -> std::result::Result<web::Data<App>, Exit> {
        let metrics = Metrics::default();
        let db = Db::serve(&config.database)?.observed(metrics.write_time.clone());
        let secret = root_secret(&config)?;
        let opened = db.clone();
        let cannot_read = |error: Error| opened.cannot_start(&error);
        let keyring = keys::keyring(&db, &secret, &config, clock.now()).map_err(cannot_read)?;
        let (stored, of_database) = db.read_now(|conn| Ok(trusted_time::read(conn)?)).map_err(cannot_read)?;
        let now = of_database.map_or_else(|| clock.now(), |now| clock.of_database(now));
        let time = TrustedTime::new(stored, now, clock.steady(), Kind::max_ttl(&config));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let app = App {
            directory: Directory::new(keyring),
            leaks: Leaks::default(),
            hasher: Hasher::new(config.bcrypt_cost, cores),
            metrics,
            usage: Usage::default(),
            writing_usage: Mutex::default(),
            failures: Outbox::new(flush::MAX_FAILURES),
            used_assertions: Outbox::new(match config.database {
                // A SQLite file has one server, so there is no other node.
                Database::Sqlite(_) => 0,
                Database::Postgres(_) => MAX_REMEMBERED,
            }),
            budgets: Budgets::new(config.budgets),
            left_out_lines: LeftOut::default(),
            connections: Connections::new(&config),
            host_checks: HostChecks::new(&config),
            revocations: Revocations::default(),
            started: Started::new(clock.as_ref(), stored),
            clock,
            time: Mutex::new(time),
            substitute: SubstituteTime::none(),
            draining: AtomicBool::new(false),
            warned: bounds::Warned::default(),
            end: Notify::new(),
            config,
            db,
        };
        app.update_trusted_time().map_err(cannot_read)?;
        let keyring = app.directory.keyring().clone();
        // A clock behind the stored time is wrong, and would retire the current keys too early.
        let now = now.max(stored);
        let needs_key = app.db.read_now(|conn| keys::needs_key(conn, &keyring, now)).map_err(cannot_read)?;
        let new_key = if needs_key { NewKey::new(&keyring) } else { None };
        let reconcile = |conn: &mut Conn| {
            keys::audited(conn, Actor::SERVER, now, |conn| keys::reconcile(conn, &keyring, new_key, now))?.record(conn)
        };
        let reconciled = app.db.change_now(reconcile, |_| Ok(()));
        reconciled.map_err(cannot_read)?.map_err(Exit::config)?;
        app.db.watch_file(true).map_err(|error| match error.cause() {
            Some(cause) => Exit::cannot_create(cause),
            None => cannot_read(error),
        })?;
        let connection = app.directory.fill(&app.db).map_err(cannot_read)?;
        let app = web::Data::new(app);
        sync::start(Arc::downgrade(&app), connection)?;
        background::start(&app)?;
        Ok(app)
    }

    /// Reads the latest changes and applies them to the directory. Returns the connection for the next call.
    fn refresh(&self, connection: Option<Conn>) -> Result<Conn> {
        let mut conn = connection.map_or_else(|| self.db.sync_connection(), Ok)?;
        if !self.directory.is_up_to_date(&mut conn)? {
            self.directory.catch_up(&mut conn)?;
        }
        Ok(conn)
    }

    /// Issues an access token. Returns the token and its lifetime in seconds.
    #[doc(hidden)]
    pub fn access_token(&self, client: &ActiveClient, scope: &str, audiences: &[&str]) -> (String, i64) {
        let ActiveClient { domain, tenant } = client;
        let id = domain.id.as_str();
        let token = self.issue(Kind::Access, tenant, |claims| Claims {
            sub: id.into(),
            client_id: Some(id.into()),
            host: Some((&*domain.host).into()),
            host_verified: Some(domain.host_verified),
            scope: scope.into(),
            aud: audiences.iter().map(|audience| (*audience).into()).collect(),
            generation: client.generation(),
            ..claims
        });
        self.metrics.tokens_issued.inc();
        let now = self.now();
        self.usage.count(domain.id, usage::Kind::Token, now);
        if domain.meter.issued(client.generation(), now, self.config.token_ttl) {
            self.metrics.tokens_redundant.inc();
            self.usage.count(domain.id, usage::Kind::Redundant, now);
        }
        (token, self.config.token_ttl)
    }

    /// Spends one unit of a budget.
    ///
    /// # Errors
    /// When the budget is exhausted: `AccountLimit`, `FailureLimit` or `NetworkLimit` by the kind of budget.
    pub(crate) fn spend(&self, budget: Budget<'_>) -> Result<()> {
        self.budgets.spend(budget, self.steady_now()).map_err(|wait| match budget {
            Budget::Changes(_) | Budget::Reads(_) | Budget::ClientChanges(_) | Budget::Revocations(_) => {
                Error::AccountLimit(wait)
            }
            Budget::Failures(_) => Error::FailureLimit { wait, message: Message::FailureLimit },
            Budget::Verifications(_) | Budget::VerificationsOfHost(..) => {
                Error::FailureLimit { wait, message: Message::Tries }
            }
            _ => Error::NetworkLimit(wait),
        })
    }

    /// Counts a refusal of a request that provably comes from that domain.
    pub(crate) fn refused(&self, domain: DomainId, error: &Error) {
        self.usage.count(domain, usage::Kind::Refused(error.reason()), self.now());
    }

    /// Issues a user token, which has every scope.
    #[doc(hidden)]
    pub fn user_token(&self, tenant: &Tenant) -> String {
        self.issue(Kind::User, tenant, |claims| claims)
    }

    fn issue<'a>(&'a self, kind: Kind, tenant: &'a Tenant, complete: impl FnOnce(Claims<'a>) -> Claims<'a>) -> String {
        let now = self.now();
        let issuer = self.config.issuer.as_str();
        let claims = complete(Claims {
            iss: issuer.into(),
            sub: match kind {
                Kind::User => tenant.id.to_string().into(),
                Kind::Access => "".into(),
            },
            aud: match kind {
                Kind::User => vec![[issuer, ACCOUNT_SUFFIX].concat().into()],
                Kind::Access => Vec::new(),
            },
            exp: now + kind.ttl(&self.config),
            iat: now,
            nbf: None,
            jti: TokenId::random().to_string().into(),
            client_id: None,
            scope: self.config.scopes.as_str().into(),
            id: tenant.id.get(),
            nick: tenant.nick.in_tokens(tenant.id),
            username: tenant.username.in_tokens(tenant.id),
            host: None,
            host_verified: None,
            generation: tenant.generation,
        });
        token::issue(&self.directory.keyring(), kind, &claims)
    }

    /// Whether the database file is in place and the database is not older than what this node has read of it. With an
    /// older database, this node cannot know what was revoked, and answers `/healthz` and `/readyz` only.
    #[doc(hidden)]
    pub fn is_sound(&self) -> bool {
        !self.directory.is_stale() && self.db.is_intact()
    }

    /// Completes when the process must exit, because the database has lost changes that the process has read. From then on,
    /// every token is refused.
    pub async fn must_end(&self) {
        self.end.notified().await;
    }

    /// Makes the process exit. If the database went back to an earlier state, this first begins a new epoch, which
    /// revokes all earlier tokens, unless another node has begun one.
    ///
    /// # Errors
    /// When the database does not answer. The caller must try again.
    fn end_process(&self) -> Result<()> {
        let (keyring, now) = (self.directory.keyring().clone(), self.now());
        let known = Some(keyring.epoch());
        let cause = (Actor::SERVER, "the database went back");
        let renew = |conn: &mut Conn| keys::renew_epoch(conn, &keyring, cause, known, now)?.record(conn);
        if self.directory.has_gone_back() {
            self.db.change_now(renew, |_| Ok(()))?;
        }
        self.end.notify_one();
        Ok(())
    }

    /// Writes what was counted last, waits for the threads that use the gate, and closes the database. The caller must have
    /// stopped its server.
    pub fn close(self: Arc<App>) {
        Arc::clone(&self).final_flush();
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while Arc::strong_count(&self) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let closed = match Arc::try_unwrap(self) {
            Ok(App { db, .. }) => db.close(),
            Err(app) => app.db.watch_file(true),
        };
        if let Err(error) = closed {
            log::warn!("cannot close the database cleanly: {}", error.cause().unwrap_or("it does not answer"));
        }
    }

    /// Whether the process is shutting down and must get no new traffic.
    #[doc(hidden)]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins the shutdown: `/readyz` answers 503, and responses ask clients to close their connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The metrics in the Prometheus text format, with current gauges.
    pub fn metrics_text(&self) -> String {
        let (used, open) = self.db.pool_use();
        self.metrics.database_connections_used.set(used.into());
        self.metrics.database_connections_open.set(open.into());
        self.metrics.directory_age.set(self.directory.age().as_secs_f64());
        self.metrics.users.set(self.directory.user_count() as i64);
        self.metrics.domains.set(self.directory.domain_count() as i64);
        self.metrics.max_users.set(self.config.max_users.unwrap_or(i64::MAX));
        self.metrics.max_domains.set(self.config.max_domains.unwrap_or(i64::MAX));
        self.metrics.revoked_tokens.set(self.directory.revoked_count() as i64);
        self.metrics.dropped_log_lines.set(logging::dropped());
        self.metrics.clock_offset.set(self.clock_offset());
        self.metrics.text()
    }
}
