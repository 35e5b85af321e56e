//! The server under test: the library's own server on a free port with its own database, and an HTTP client whose
//! methods read like the contract.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use gatebird::app::Caller;
use gatebird::config::Timeouts;
use gatebird::db::audit::Actor;
use gatebird::db::{Conn, Db};
use gatebird::shares::{Holder, Network};
use gatebird::{App, Config, app, server};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
pub use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs;
use crate::verification::dns;

/// JWT_SECRET of every server under test.
pub const JWT_SECRET: &str = "kJ8s0dP2mQ7xV4nB1zR6tY9wL3cF5gH0uE2a";
/// A password that is strong enough.
pub const PASSWORD: &str = "correct horse battery staple";

/// A setting of the harness: the milliseconds of each connection timeout.
pub const TIMEOUTS: &str = "TIMEOUTS";

/// Default settings: cheap hashes, no limits, no second port.
const SETTINGS: &[(&str, &str)] = &[
    ("PORT", "0"),
    ("JWT_SECRET", JWT_SECRET),
    ("JWT_ISSUER", "https://gate.test"),
    ("BCRYPT_COST", "4"),
    ("LIMIT_FREE", "off"),
    ("LIMIT_PREMIUM", "off"),
    ("LIMIT_FAILURES", "off"),
    ("LIMIT_SIGNIN", "off"),
    ("LIMIT_SIGNUP", "off"),
    ("LIMIT_PASSWORDS", "off"),
    ("LIMIT_CHANGES", "off"),
    ("LIMIT_LOG", "off"),
    ("DOMAINS_PER_USER", "off"),
    ("POSTS_PER_USER", "off"),
    ("LIMIT_CONNECTIONS", "off"),
    ("METRICS_ADDR", "off"),
    ("ACCESS_LOG", "off"),
    ("WORKERS", "2"),
];

/// A second connection to PostgreSQL, and the schema of the server's tables.
pub fn beside<'a>(gate: &'a Gate, base: &str) -> (PgConnection, &'a str) {
    let schema = gate.database.url.rsplit("%3D").next().expect("a schema");
    (PgConnection::establish(base).expect("PostgreSQL answers"), schema)
}

/// The loopback address is a trusted proxy, so that requests can come from any address.
pub const BEHIND_A_PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");

/// The request as it comes from that address through a trusted proxy.
pub fn from_address(request: Request, address: &str) -> Request {
    request.header("X-Forwarded-For", address)
}

/// Sends the same request this many times concurrently.
pub fn concurrently(times: usize, send: impl Fn() -> Reply + Sync) -> Vec<Reply> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..times).map(|_| scope.spawn(&send)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

/// Checks every row, also after a row that fails. The message of each failed check must name its row.
#[track_caller]
pub fn check_each<Row>(rows: impl IntoIterator<Item = Row>, mut check: impl FnMut(Row)) {
    let mut failed = 0;
    for row in rows {
        failed += usize::from(catch_unwind(AssertUnwindSafe(|| check(row))).is_err());
    }
    assert_eq!(failed, 0, "rows failed");
}

/// Like [`check_each`], all rows at once. For rows that wait most of the time.
#[track_caller]
pub fn check_all<Row: Send>(rows: impl IntoIterator<Item = Row>, check: impl Fn(Row) + Sync) {
    let failed = std::thread::scope(|scope| {
        let check = &check;
        let threads: Vec<_> = rows.into_iter().map(|row| scope.spawn(move || check(row))).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).count()
    });
    assert_eq!(failed, 0, "rows failed");
}

/// The holder of shares for work of a test itself.
pub fn holder() -> Holder {
    Holder::network(Network::of(None))
}

/// The caller of a change by a test itself.
pub fn caller() -> Caller {
    Caller { actor: Actor::SERVER, holder: holder(), token: None }
}

/// `TEST_DATABASE_URL`: the URL of a PostgreSQL, or `sqlite`.
#[expect(clippy::disallowed_methods, reason = "this is the tests' own setting")]
fn test_database() -> Option<String> {
    std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())
}

/// The PostgreSQL to test on; without it, tests run on SQLite.
pub fn postgres() -> Option<String> {
    test_database().filter(|url| url != "sqlite")
}

/// The PostgreSQL of a test that needs PostgreSQL. On SQLite the test must return.
///
/// `TEST_DATABASE_URL=sqlite` states that another run is on PostgreSQL, so that every test runs in one of the two.
pub fn needs_postgres() -> Option<String> {
    match test_database() {
        None => programs::leave_out("TEST_DATABASE_URL names no PostgreSQL"),
        Some(url) if url != "sqlite" => return Some(url),
        Some(_) => {}
    }
    None
}

/// The database of one test, deleted on drop.
pub struct Database {
    pub url: String,
    pub dir: TempDir,
    schema: Option<String>,
}

impl Database {
    /// SQLite, or PostgreSQL where the run is on PostgreSQL.
    pub fn new() -> Database {
        match postgres() {
            None => Database::sqlite(),
            Some(base) => Database::in_schema(&base),
        }
    }

    /// Opens the database once more.
    pub fn open(&self) -> Db {
        let settings = [("JWT_SECRET".to_owned(), JWT_SECRET.to_owned())];
        Db::open(&config(self, &settings).database).expect("it opens")
    }

    /// SQLite in every run.
    pub fn sqlite() -> Database {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", dir.path().join("data/gatebird.db").display());
        Database { url, dir, schema: None }
    }

    /// A new schema of that PostgreSQL.
    pub fn in_schema(base: &str) -> Database {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let name = dir.path().file_name().expect("a name").to_string_lossy().replace(['.', '-'], "").to_lowercase();
        let schema = format!("test_{name}");
        let mut conn = PgConnection::establish(base).expect("PostgreSQL answers on TEST_DATABASE_URL");
        conn.batch_execute(&format!("CREATE SCHEMA {schema}")).expect("a schema can be made");
        let separator = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{separator}options=-csearch_path%3D{schema}");
        Database { url, dir, schema: Some(schema) }
    }

    /// Executes statements as another program does, without the server's settings of a connection.
    #[track_caller]
    pub fn execute(&self, statements: &str) {
        match self.url.strip_prefix("sqlite://") {
            Some(path) => {
                let mut conn = SqliteConnection::establish(path).expect("a database");
                conn.batch_execute("PRAGMA busy_timeout = 5000").expect("SQLite");
                conn.batch_execute(statements)
            }
            None => PgConnection::establish(&self.url).expect("a database").batch_execute(statements),
        }
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    pub fn is_postgres(&self) -> bool {
        self.schema.is_some()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let (Some(schema), Some(base)) = (&self.schema, postgres())
            && let Ok(mut conn) = PgConnection::establish(&base)
        {
            drop(conn.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")));
        }
    }
}

/// A clock that a test can move.
#[derive(Clone, Default)]
pub struct Clock {
    /// Seconds that have passed in addition to the real ones.
    passed: Arc<AtomicI64>,
    /// Seconds by which the server's wall clock is wrong.
    wrong: Arc<AtomicI64>,
    /// Seconds by which the database's clock is wrong.
    database: Arc<AtomicI64>,
}

impl Clock {
    /// Lets that many seconds pass.
    pub fn advance(&self, seconds: i64) {
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Sets the server's wall clock wrong by that many seconds; no time passes. 0 corrects it.
    pub fn set_wrong(&self, seconds: i64) {
        self.wrong.store(seconds, Ordering::SeqCst);
    }

    /// Sets the clock of the database wrong by that many seconds, as this server sees it.
    pub fn set_database_wrong(&self, seconds: i64) {
        self.database.store(seconds, Ordering::SeqCst);
    }

    /// The time of the server's wall clock.
    pub fn now(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "the tests' clock starts at the real time")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_secs() as i64 + self.passed.load(Ordering::SeqCst) + self.wrong.load(Ordering::SeqCst)
    }
}

impl app::Clock for Clock {
    fn now(&self) -> i64 {
        Clock::now(self)
    }

    /// Never goes back, even if a test turns the clock back.
    fn steady(&self) -> u64 {
        static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
        // Some tests go to the end of the calendar, which is too far for the meters.
        let passed = self.passed.load(Ordering::SeqCst).clamp(0, 1_000_000_000) as u64;
        STARTED.elapsed().as_nanos() as u64 + passed * 1_000_000_000
    }

    /// Time passes for the database as well.
    fn of_database(&self, now: i64) -> i64 {
        now + self.passed.load(Ordering::SeqCst) + self.database.load(Ordering::SeqCst)
    }
}

/// A running server.
pub struct Gate {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    pub app: web::Data<App>,
    pub clock: Clock,
    pub database: Arc<Database>,
    settings: Vec<(String, String)>,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    pub fn start() -> Gate {
        Gate::with(&[])
    }

    /// With settings that override the defaults.
    pub fn with(settings: &[(&str, &str)]) -> Gate {
        Gate::on(Arc::new(Database::new()), settings)
    }

    /// With that database.
    pub fn on(database: Arc<Database>, settings: &[(&str, &str)]) -> Gate {
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let settings: Vec<_> = settings.iter().chain(SETTINGS).map(owned).collect();
        Gate::launch(database, settings, Clock::default())
    }

    /// Another node on the same PostgreSQL with the same settings.
    pub fn another_node(&self) -> Gate {
        Gate::launch(Arc::clone(&self.database), self.settings.clone(), Clock::default())
    }

    /// Stops the server, and starts it again with these settings over its own. Its clock continues.
    pub fn restart(self, settings: &[(&str, &str)]) -> Gate {
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        let settings = settings.iter().map(owned).chain(self.settings.clone()).collect();
        let (database, clock) = (Arc::clone(&self.database), self.clock.clone());
        drop(self);
        Gate::launch(database, settings, clock)
    }

    fn launch(database: Arc<Database>, settings: Vec<(String, String)>, clock: Clock) -> Gate {
        let config = config(&database, &settings);
        let (sender, receiver) = mpsc::channel();
        let time = clock.clone();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = start(&config, &time);
                let (server, addresses) = server::bind(&app).expect("a free port");
                sender.send((app, addresses[0], server.handle())).expect("the receiver is waiting");
                server.await.expect("the server ends well");
            });
        });
        let (app, address, handle) = receiver.recv_timeout(Duration::from_secs(20)).expect("the server starts");
        Gate { url: format!("http://{address}"), app, clock, database, settings, handle, thread: Some(thread) }
    }

    pub fn request(&self, method: &str, path: &str) -> Request {
        Request { method: method.into(), url: format!("{}{path}", self.url), headers: Vec::new(), body: None }
    }

    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    pub fn put(&self, path: &str) -> Request {
        self.request("PUT", path)
    }

    pub fn patch(&self, path: &str) -> Request {
        self.request("PATCH", path)
    }

    pub fn delete(&self, path: &str) -> Request {
        self.request("DELETE", path)
    }

    /// Creates an account with [`PASSWORD`].
    pub fn sign_up(&self, username: &str) -> User {
        let body = json!({"username": username, "password": PASSWORD});
        let answer = self.post("/v1/signup").json(&body).send().expect(201);
        User {
            token: answer["token"].as_str().expect("a token").into(),
            id: answer["payload"]["id"].as_i64().expect("a number"),
        }
    }

    /// Registers a domain.
    pub fn register(&self, owner: &User, host: &str) -> Domain {
        let body = json!({"host": host, "type": "free"});
        let answer = self.post("/v1/domains").token(&owner.token).json(&body).send().expect(201);
        let text = |member: &str| answer["payload"][member].as_str().expect("a string").to_owned();
        Domain { id: text("id"), secret: text("clientSecret") }
    }

    /// Executes statements, and applies them to the directory.
    #[track_caller]
    pub fn execute(&self, statements: &str) {
        let catch_up = |conn: &mut Conn| self.app.directory.catch_up(conn);
        self.app.db.change_now(|conn| Ok(conn.batch_execute(statements)?), catch_up).expect("the database answers");
    }

    /// Exchanges the domain's secret, in the JSON form.
    pub fn access_token(&self, domain: &Domain) -> String {
        let answer = self.post("/token").json(&json!({"clientSecret": domain.secret})).send().expect(200);
        answer["token"].as_str().expect("a token").into()
    }

    /// A user with a domain, and an access token of it.
    pub fn tenant(&self, username: &str) -> (User, Domain, String) {
        let user = self.sign_up(username);
        let domain = self.register(&user, &format!("{username}.example.com"));
        let token = self.access_token(&domain);
        (user, domain, token)
    }
}

/// Starts the app. A thread of an earlier server, or a process that another test is just starting, may still hold the
/// file for a moment.
fn start(config: &Config, clock: &Clock) -> web::Data<App> {
    let began = Instant::now();
    loop {
        match App::start_with_clock(config.clone(), Box::new(clock.clone())) {
            Err(exit) if exit.code == 73 && began.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            started => return started.expect("the app starts"),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The settings of a server under test as a parsed [`Config`].
pub fn config(database: &Database, settings: &[(String, String)]) -> Config {
    let config = Config::load(|key| {
        if key == "DATABASE_URL" {
            return Some(database.url.clone());
        }
        let set = settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        // No test queries the public DNS.
        set.or_else(|| (key == "DNS_SERVER").then(|| dns::EMPTY.address.to_string()))
    });
    let mut config = config.unwrap_or_else(|problems| panic!("{problems}"));
    if let Some((_, milliseconds)) = settings.iter().find(|(name, _)| name == TIMEOUTS) {
        let timeout = Duration::from_millis(milliseconds.parse().expect("a number"));
        config.timeouts = Timeouts { head: timeout, body: timeout, idle: timeout, written: timeout };
    }
    config
}

pub struct User {
    pub token: String,
    pub id: i64,
}

pub struct Domain {
    pub id: String,
    pub secret: String,
}

/// A request under construction.
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    /// `Authorization: Bearer <token>`.
    pub fn token(self, token: impl Display) -> Request {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub fn basic(self, id: &str, secret: &str) -> Request {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
        self.header("Authorization", format!("Basic {encoded}"))
    }

    pub fn json(self, body: &Value) -> Request {
        self.body("application/json", body.to_string())
    }

    pub fn form(self, body: impl Into<String>) -> Request {
        self.body("application/x-www-form-urlencoded", body.into())
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self.header("Content-Type", content_type)
    }

    /// Sends the request. A broken connection fails the test.
    pub fn send(self) -> Reply {
        let mut request = ureq::http::Request::builder().method(self.method.as_str()).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value.as_slice());
        }
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let request = request.body(self.body.unwrap_or_default()).expect("a well-formed request");
        let mut response = agent.run(request).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.url));
        let headers = response.headers().iter();
        Reply {
            status: response.status().as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: response.body_mut().read_to_vec().expect("a whole body"),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text()))
    }

    /// The JSON body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Checks the whole shape of a refusal: status, reason and the members of every error body.
    #[track_caller]
    pub fn refused(&self, status: u16, reason: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], json!(status), "{body}");
        assert_eq!(body["reason"], json!(reason), "{body}");
        for member in ["message", "error", "error_description"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
        }
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{body}");
        body
    }
}

/// Signs any header and claims as HS256, even invalid ones.
pub fn mint_with(header: &str, claims: &str, key: &[u8]) -> String {
    mint_bytes(header.as_bytes(), claims.as_bytes(), key)
}

/// The same for bytes that may be no text.
pub fn mint_bytes(header: &[u8], claims: &[u8], key: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), Algorithm::HS256);
    format!("{message}.{}", signature.expect("HMAC takes any key"))
}

/// Header and claims of a token, as JSON.
pub fn parts(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let mut next = || serde_json::from_slice(&parts.next().expect("three parts")).expect("JSON");
    (next(), next())
}

/// A good token with changed header and claims, signed with the server's own key.
pub fn resigned(token: &str, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let (mut header, mut claims) = parts(token);
    change(&mut header, &mut claims);
    mint_with(&header.to_string(), &claims.to_string(), JWT_SECRET.as_bytes())
}
