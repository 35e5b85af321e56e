//! The running gate: settings, database, directory, keys. Started once, shared by all workers.

pub(crate) mod bounds;
mod failures;
mod files;
mod follow;
pub mod keys;
pub mod leaks;
mod ledger;
pub(crate) mod proofs;
mod removal;
mod revocations;
mod time;
mod upkeep;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web;
use tokio::sync::Notify;

use self::failures::Failures;
pub(crate) use self::files::root_secret;
use self::keys::Spare;
use self::leaks::Leaks;
use self::proofs::Proving;
use self::revocations::Revocations;
pub(crate) use self::revocations::Revoker;
pub use self::time::Clock;
pub(crate) use self::time::system_time;
use self::time::{Instead, Started, SystemClock, TrustedTime};
pub(crate) use self::upkeep::{KNOWN_NETWORK, USAGE_DAYS};
use crate::config::{ACCOUNT, Config, Database};
use crate::connections::Connections;
use crate::db::audit::Audited;
pub(crate) use crate::db::audit::{Actor, Who};
use crate::db::user::{self, Standing, Tenant};
use crate::db::{Conn, Db, trusted_time};
use crate::directory::{Directory, Live};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::id::{DomainId, TokenId};
use crate::logging::{self, LeftOut};
use crate::metrics::Metrics;
use crate::password::Hasher;
use crate::shares::{Budget, Budgets, Holder};
use crate::token::replay::Used;
use crate::token::{self, Claims, Kind};
use crate::usage::{self, Usage};

/// How often it is noted how far the database has come, and looked whether its file is where it was.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long the end of the process waits for its threads.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The running gate. Handlers and extractors get it as `web::Data<App>`.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// What the hot path knows.
    pub directory: Directory,
    /// The client secrets that came from a browser.
    pub leaks: Leaks,
    /// What checks passwords.
    pub hasher: Hasher,
    /// What is counted.
    pub metrics: Metrics,
    /// What domains did since it was last written.
    pub usage: Usage,
    /// Held while the ledger is written.
    writing: Mutex<()>,
    /// There may be usage in the database that is still to be added up.
    has_log: AtomicBool,
    /// Refused passwords that wait to be written to the audit log.
    failures: Failures,
    /// What networks may ask for.
    pub budgets: Budgets,
    /// Access log lines that were left out.
    pub left_out_lines: LeftOut,
    /// Who is connected.
    pub connections: Connections,
    proving: Proving,
    revocations: Revocations,
    started: Started,
    clock: Box<dyn Clock>,
    time: Mutex<TrustedTime>,
    instead: Instead,
    draining: AtomicBool,
    warned: bounds::Warned,
    /// Notified when this process must end.
    end: Notify,
}

/// How often the access log is told what it left out.
const LEFT_OUT_INTERVAL: Duration = Duration::from_secs(60);

impl App {
    /// Opens everything, fills the directory and keeps it fresh.
    ///
    /// # Errors
    /// Whatever cannot be safe: see [`Exit`].
    pub fn start(config: Config) -> std::result::Result<web::Data<App>, Exit> {
        App::start_with_clock(config, Box::new(SystemClock { started: Instant::now() }))
    }

    /// [`App::start`] with another clock.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with_clock(config: Config, clock: Box<dyn Clock>) -> std::result::Result<web::Data<App>, Exit> {
        let metrics = Metrics::default();
        let db = Db::serve(&config.database)?.observed(metrics.write_time.clone());
        let secret = root_secret(&config)?;
        let opened = db.clone();
        let cannot_read = |error: Error| opened.cannot_start(&error);
        let keyring = keys::keyring(&db, &secret, &config, clock.now()).map_err(cannot_read)?;
        let used_assertions = match config.database {
            // A file has one server, and after a restart of that the table would tell it nothing that it can rely on.
            Database::Sqlite(_) => Used::default(),
            Database::Postgres(_) => Used::shared(),
        };
        let read_time = |conn: &mut Conn| Ok((trusted_time::kept(conn)?, trusted_time::of_database(conn)?));
        let (kept, of_database) = db.read_now(read_time).map_err(cannot_read)?;
        let now = of_database.map_or_else(|| clock.now(), |now| clock.of_database(now));
        let time = TrustedTime::new(kept, now, clock.steady(), Kind::longest_ttl(&config));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let app = App {
            directory: Directory::new(keyring, used_assertions),
            leaks: Leaks::default(),
            hasher: Hasher::new(config.bcrypt_cost, cores),
            metrics,
            usage: Usage::default(),
            writing: Mutex::default(),
            has_log: AtomicBool::new(true),
            failures: Failures::default(),
            budgets: Budgets::new(config.budgets),
            left_out_lines: LeftOut::default(),
            connections: Connections::new(&config),
            proving: Proving::new(&config),
            revocations: Revocations::default(),
            started: Started::new(clock.as_ref(), kept),
            clock,
            time: Mutex::new(time),
            instead: Instead::none(),
            draining: AtomicBool::new(false),
            warned: bounds::Warned::default(),
            end: Notify::new(),
            config,
            db,
        };
        app.keep_time().map_err(cannot_read)?;
        let keyring = app.directory.keyring().clone();
        // A clock that is behind is certainly wrong, and would end the keys in use too early.
        let now = now.max(kept);
        let lacks_one = app.db.read_now(|conn| keys::lacks_one(conn, &keyring, now)).map_err(cannot_read)?;
        let spare = if lacks_one { Spare::new(&keyring) } else { None };
        let settle = |conn: &mut Conn| {
            keys::telling(conn, Actor::SERVER, now, |conn| keys::settle(conn, &keyring, spare, now))?.record(conn)
        };
        let settled = app.db.change_now(settle, |_| Ok(()));
        settled.map_err(cannot_read)?.map_err(Exit::config)?;
        app.db.watch_file(true).map_err(|error| match error.cause() {
            Some(cause) => Exit::cannot_create(cause),
            None => cannot_read(error),
        })?;
        let follower = app.directory.fill(&app.db).map_err(cannot_read)?;
        let app = web::Data::new(app);
        follow::keep_fresh(Arc::downgrade(&app.clone().into_inner()), follower)?;
        ledger::keep(Arc::downgrade(&app.clone().into_inner()))?;
        upkeep::keep_up(Arc::downgrade(&app.clone().into_inner()))?;
        removal::keep_removing(Arc::downgrade(&app.clone().into_inner()))?;
        proofs::keep_looking(Arc::downgrade(&app.clone().into_inner()))?;
        let watch = |app: &Arc<App>| {
            app.left_out_lines.write();
            Ok(())
        };
        upkeep::repeat("the access log", LEFT_OUT_INTERVAL, Arc::downgrade(&app.clone().into_inner()), watch)?;
        let watch_file = |app: &Arc<App>| app.db.watch_file(false);
        upkeep::repeat("watching the file", WATCH_INTERVAL, Arc::downgrade(&app.clone().into_inner()), watch_file)?;
        Ok(app)
    }

    /// Reads what changed and applies it, on that connection or on a new one, which is returned for the next time.
    fn refresh(&self, follower: Option<Conn>) -> Result<Conn> {
        let mut conn = follower.map_or_else(|| self.db.follower(), Ok)?;
        if !self.directory.is_up_to_date(&mut conn)? {
            self.directory.catch_up(&mut conn)?;
        }
        Ok(conn)
    }

    /// A change to the directory's tables: in one transaction with the row that tells of it, and in force on this node
    /// before it returns.
    ///
    /// # Errors
    /// As [`Db::write`]; and `CommitUnknown` when it is committed but not in force here within some seconds. The next refresh
    /// brings it; until then nobody may be told that what it revokes is refused.
    pub async fn change<T: Send + 'static>(
        self: &Arc<App>,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        let (value, applied) = self.commit(holder, work).await?;
        applied.map(|()| value)
    }

    /// [`App::change`] of what takes nothing away from anybody, or not soon. It counts as done once it is committed: its
    /// answer may hold a secret that is shown only once, and is worth more than a node that knows of it at the next refresh
    /// only.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub(crate) async fn add<T: Send + 'static>(
        self: &Arc<App>,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        let (value, applied) = self.commit(holder, work).await?;
        if let Err(error) = applied {
            log::warn!("what was added is not yet in force on this node: {error}");
        }
        Ok(value)
    }

    async fn commit<T: Send + 'static>(
        self: &Arc<App>,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<(T, Result<()>)> {
        let app = Arc::clone(self);
        self.db.change(holder, move |conn| work(conn)?.record(conn), move |conn| app.directory.catch_up(conn)).await
    }

    /// [`App::change`] on this thread, for as long as it takes.
    ///
    /// # Errors
    /// As [`Db::change_now`].
    pub fn change_now<T>(&self, work: impl FnOnce(&mut Conn) -> Result<Audited<T>>) -> Result<T> {
        self.db.change_now(|conn| work(conn)?.record(conn), |conn| self.directory.catch_up(conn))
    }

    /// A change to other tables than the directory's: in one transaction with the row that tells of it.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write<T: Send + 'static>(
        &self,
        holder: Holder,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        self.db.write(holder, move |conn| work(conn)?.record(conn)).await
    }

    /// [`App::change`] by a user, whose token has to hold still when the transaction begins, seconds after its request did.
    ///
    /// # Errors
    /// As [`App::change`], and when the token was revoked meanwhile.
    pub(crate) async fn change_by<T: Send + 'static>(
        self: &Arc<App>,
        holder: Holder,
        standing: Standing,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        self.change(holder, by(standing, work)).await
    }

    /// [`App::add`] by a user.
    ///
    /// # Errors
    /// As [`App::add`], and when the token was revoked meanwhile.
    pub(crate) async fn add_by<T: Send + 'static>(
        self: &Arc<App>,
        holder: Holder,
        standing: Standing,
        work: impl FnOnce(&mut Conn) -> Result<Audited<T>> + Send + 'static,
    ) -> Result<T> {
        self.add(holder, by(standing, work)).await
    }

    /// Issues an access token with those scopes for those audiences, and says how many seconds it lives.
    pub fn access_token(&self, client: &Live, scope: &str, audiences: &[&str]) -> (String, i64) {
        let Live { domain, tenant } = client;
        let id = domain.id.as_str();
        let token = self.issue(Kind::Access, tenant, |claims| Claims {
            sub: id.into(),
            client_id: Some(id.into()),
            host: Some((&*domain.host).into()),
            host_verified: Some(domain.proven),
            scope: scope.into(),
            aud: audiences.iter().map(|audience| (*audience).into()).collect(),
            generation: client.generation(),
            ..claims
        });
        self.metrics.tokens_issued.inc();
        let now = self.now();
        self.usage.count(domain.id, usage::Kind::Token, now);
        if domain.meter.issued(client.generation(), now, self.config.token_ttl) {
            self.metrics.tokens_needless.inc();
            self.usage.count(domain.id, usage::Kind::Needless, now);
        }
        (token, self.config.token_ttl)
    }

    /// Takes one from an account's budget.
    ///
    /// # Errors
    /// When it is used up.
    pub(crate) fn spend_of_account(&self, budget: Budget<'_>) -> Result<()> {
        self.budgets.spend(budget, self.steady_now()).map_err(Error::AccountLimit)
    }

    /// Counts a refusal that is certainly that domain's own.
    pub(crate) fn refused(&self, domain: DomainId, error: &Error) {
        self.usage.count(domain, usage::Kind::Refused(error.reason()), self.now());
    }

    /// Issues a user token, which carries every scope.
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
                Kind::User => vec![[issuer, ACCOUNT].concat().into()],
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

    /// Whether the database is where it was and no older than what this node has seen of it. If it is older, this node cannot
    /// know what was revoked since, and answers nothing but `/healthz` and `/readyz`.
    pub fn is_sound(&self) -> bool {
        !self.directory.is_outdated() && self.db.is_intact()
    }

    /// Completes when the process must end, because this node cannot follow the database any more.
    pub async fn must_end(&self) {
        self.end.notified().await;
    }

    /// Lets the process end. Where the database went back, every token that was issued before is refused first, unless another
    /// node has done so.
    ///
    /// # Errors
    /// When the database does not answer: this node must go on trying.
    fn leave(&self) -> Result<()> {
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

    /// Writes what is counted, and closes the database once everything that uses the app has ended.
    pub(crate) fn close(self: Arc<App>) {
        Arc::clone(&self).close_ledger();
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while Arc::strong_count(&self) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let closed = match Arc::try_unwrap(self) {
            Ok(App { db, .. }) => db.close(),
            Err(app) => app.db.watch_file(true),
        };
        if let Err(error) = closed {
            log::warn!("the database was not closed well: {}", error.cause().unwrap_or("it is away"));
        }
    }

    /// Whether the process is about to end and wants no new traffic.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Turns `/readyz` to 503 and asks clients to open no further requests on their connections.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The metrics text, with the gauges as they are now.
    pub fn metrics_text(&self) -> String {
        let (used, open) = self.db.pool_use();
        self.metrics.connections_used.set(used.into());
        self.metrics.connections_open.set(open.into());
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

/// The work, if the token that it is done with holds still: see [`App::change_by`].
fn by<T>(standing: Standing, work: impl FnOnce(&mut Conn) -> Result<T>) -> impl FnOnce(&mut Conn) -> Result<T> {
    move |conn| match user::still_stands(conn, standing)? {
        true => work(conn),
        false => Err(Error::TokenRevoked),
    }
}
