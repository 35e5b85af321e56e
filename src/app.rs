//! The running gate: settings, database, directory, keys. Started once, shared by all workers.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::{Config, Database, HmacSecret};
use crate::db::user::{self, Standing, Tenant};
use crate::db::{self, Conn, Db};
use crate::directory::{Directory, Live};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::logging;
use crate::metrics::Metrics;
use crate::password::Hasher;
use crate::token::keyring::{Key, Keyring};
use crate::token::{self, Claims, Kind, Policy};

/// Every scope there is. A domain's tokens carry all of them unless the client asks for fewer.
pub const SCOPES: &str = "posts:read posts:write";

/// How often a node reads what other nodes changed; they agree within twice that.
const REFRESH: Duration = Duration::from_secs(1);

/// After this a refresh is given up and another one is begun, on another connection.
const HANGS: Duration = Duration::from_secs(3);
/// So many given up ones may be there at once.
const MOST_HANGING: usize = 4;

/// Tells the time in Unix seconds. Tests pass one of their own.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// The running gate. Handlers and extractors get it as `web::Data<App>`.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// What the hot path knows.
    pub directory: Directory,
    /// What signs and verifies.
    pub keyring: Keyring,
    /// What tokens are granted and accepted.
    pub policy: Policy,
    /// What checks passwords.
    pub hasher: Hasher,
    /// What is counted.
    pub metrics: Metrics,
    clock: Clock,
    started: Instant,
    draining: AtomicBool,
    /// Held as long as this process serves from a SQLite file.
    _in_use: Option<File>,
}

impl App {
    /// Opens everything, fills the directory and keeps it fresh.
    ///
    /// # Errors
    /// Whatever cannot be safe: see [`Exit`].
    pub fn start(config: Config) -> std::result::Result<web::Data<App>, Exit> {
        App::start_with_clock(config, Box::new(system_time))
    }

    /// [`App::start`] with another clock.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with_clock(config: Config, clock: Clock) -> std::result::Result<web::Data<App>, Exit> {
        let in_use = take_file(&config.database)?;
        let db = Db::open(&config.database)?;
        let signing = match &config.jwt_secret {
            Some(secret) => Key::hs256(secret),
            None => Key::hs256(&kept_secret(&config.database)?),
        };
        let earlier = config.jwt_secret_previous.iter().map(Key::hs256).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let app = App {
            directory: Directory::default(),
            keyring: Keyring::new(signing, earlier),
            policy: Policy {
                issuer: config.issuer.clone(),
                access_ttl: config.token_ttl,
                user_ttl: config.user_token_ttl,
            },
            hasher: Hasher::new(config.bcrypt_cost, cores),
            metrics: Metrics::default(),
            clock,
            started: Instant::now(),
            draining: AtomicBool::new(false),
            _in_use: in_use,
            config,
            db,
        };
        let follower = app.refresh(None).map_err(|error| match error.cause() {
            Some(cause) => Exit::data(format!("cannot read the directory from the database: {cause}")),
            None => Exit::unavailable("the database does not answer; check DATABASE_URL"),
        })?;
        let app = web::Data::new(app);
        keep_fresh(Arc::downgrade(&app.clone().into_inner()), follower)?;
        Ok(app)
    }

    /// Reads what changed and applies it, on that connection or on a new one, which is returned for the next time.
    fn refresh(&self, follower: Option<Conn>) -> Result<Conn> {
        let mut conn = follower.map_or_else(|| self.db.follower(), Ok)?;
        self.directory.catch_up(&mut conn)?;
        Ok(conn)
    }

    /// Unix seconds.
    pub fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Nanoseconds of a clock that never goes back, for meters.
    pub fn steady_now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// A change to the directory's tables: in one transaction, and in force on this node before it returns.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn change<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let app = Arc::clone(self);
        self.db.change(work, move |conn| app.directory.catch_up(conn)).await
    }

    /// [`App::change`] by a user, whose token has to hold still when the transaction begins, seconds after its request did.
    ///
    /// # Errors
    /// As [`Db::change`], and when the token was revoked meanwhile.
    pub(crate) async fn change_by<T: Send + 'static>(
        self: &Arc<App>,
        standing: Standing,
        work: impl FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.change(move |conn| match user::still_stands(conn, standing)? {
            true => work(conn),
            false => Err(Error::TokenRevoked),
        })
        .await
    }

    /// Issues an access token with those scopes, and says how many seconds it lives.
    pub fn access_token(&self, client: &Live, scope: &str) -> (String, i64) {
        let Live { domain, tenant } = client;
        let id = domain.id.as_str();
        let token = self.issue(Kind::Access, tenant, |claims| Claims {
            sub: id.into(),
            client_id: Some(id.into()),
            host: Some((&*domain.host).into()),
            scope: scope.into(),
            generation: client.generation(),
            ..claims
        });
        self.metrics.tokens_issued.inc();
        (token, self.policy.access_ttl)
    }

    /// Issues a user token, which carries every scope.
    pub fn user_token(&self, tenant: &Tenant) -> String {
        self.issue(Kind::User, tenant, |claims| claims)
    }

    fn issue<'a>(&'a self, kind: Kind, tenant: &'a Tenant, complete: impl FnOnce(Claims<'a>) -> Claims<'a>) -> String {
        let now = self.now();
        let issuer = self.policy.issuer.as_str();
        let claims = complete(Claims {
            iss: issuer.into(),
            sub: match kind {
                Kind::User => tenant.id.to_string().into(),
                Kind::Access => "".into(),
            },
            aud: vec![issuer.into()],
            exp: now + self.policy.ttl(kind),
            iat: now,
            nbf: None,
            jti: token::random_jti().into(),
            client_id: None,
            scope: SCOPES.into(),
            id: tenant.id.get(),
            nick: tenant.nick.as_str().into(),
            username: tenant.username.as_str().into(),
            host: None,
            generation: tenant.generation,
        });
        token::issue(&self.keyring, kind, &claims)
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
        self.metrics.domains.set(self.directory.domain_count() as i64);
        self.metrics.dropped_log_lines.set(logging::dropped());
        self.metrics.text()
    }
}

/// Unix seconds by the system's clock, for what runs outside of an [`App`].
pub(crate) fn system_time() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Reads the difference once a second, until the app is gone. Each time on a thread of its own: a connection that hangs, which
/// no time limit of ours ends, is left behind with its thread.
fn keep_fresh(app: Weak<App>, follower: Conn) -> std::result::Result<(), Exit> {
    let cannot_start = |error| Exit::software(format!("cannot start a thread: {error}"));
    let refreshing = move || {
        let mut follower = Some(follower);
        let mut hanging: Vec<Receiver<Result<Conn>>> = Vec::new();
        let mut away = false;
        loop {
            std::thread::sleep(REFRESH);
            let Some(app) = app.upgrade() else { return };
            hanging.retain(|attempt| matches!(attempt.try_recv(), Err(TryRecvError::Empty)));
            if hanging.len() >= MOST_HANGING {
                continue;
            }
            let (sender, attempt) = channel();
            let conn = follower.take();
            std::thread::spawn(move || sender.send(app.refresh(conn)));
            let failure = match attempt.recv_timeout(HANGS) {
                Ok(Ok(conn)) => {
                    follower = Some(conn);
                    None
                }
                Ok(Err(error)) => Some(error.cause().unwrap_or("the database is away").to_owned()),
                Err(_) => {
                    hanging.push(attempt);
                    Some("the database hangs".to_owned())
                }
            };
            match (&failure, away) {
                (Some(why), false) => log::error!("the directory cannot be refreshed: {why}"),
                (None, true) => log::info!("the directory is fresh again"),
                _ => {}
            }
            away = failure.is_some();
        }
    };
    std::thread::Builder::new().name("directory".into()).spawn(refreshing).map(drop).map_err(cannot_start)
}

/// Two servers on one SQLite file would not see each other's changes in time; the command line may write beside one.
fn take_file(database: &Database) -> std::result::Result<Option<File>, Exit> {
    let Database::Sqlite(path) = database else {
        return Ok(None);
    };
    db::make_file(path)?;
    // One file may have several names: the lock stands beside the file itself.
    let lock = fs::canonicalize(path).unwrap_or_else(|_| path.clone()).with_added_extension("lock");
    let cannot =
        |error: &dyn std::fmt::Display| Exit::cannot_create(format!("cannot open {}: {error}", lock.display()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock)
        .map_err(|error| cannot(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Exit::cannot_create(format!(
            "{} is in use by another gatebird; stop that one, give this one a DATABASE_URL of its own, or let both use PostgreSQL",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(&error)),
    }
}

/// The secret beside the embedded database file: made on the first start, for its owner's eyes only.
fn kept_secret(database: &Database) -> std::result::Result<HmacSecret, Exit> {
    let Database::Sqlite(database) = database else {
        return Err(Exit::config("JWT_SECRET is required with PostgreSQL"));
    };
    let path = database.with_file_name("jwt_secret");
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
    parse_kept(&path, text.trim())
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
