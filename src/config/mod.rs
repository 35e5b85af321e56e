//! The settings, read once at start from the environment and `.env`. All invalid values are reported together.

mod algorithm;
mod hmac_secret;
mod postgres_url;
mod sources;
mod value;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix_web::http::StatusCode;
use ipnet::IpNet;

pub use self::algorithm::Algorithm;
pub use self::hmac_secret::HmacSecret;
pub use self::postgres_url::PostgresUrl;
pub use self::sources::Source;
use self::sources::{RawValue, SECRETS, Sources};
use self::value::{
    audiences, database, duration, is_loopback_url, issuer, limit, log_filter, maximum, networks, one_of, parsed,
    public_url, rotation, scopes, trimmed, unless, url, with_issuer, within,
};
pub use self::value::{date, grace};
use crate::exit::Exit;
use crate::host::LocalHosts;
use crate::locale::Locale;
use crate::plan::{Plan, Plans};
use crate::shares::BudgetLimits;

/// Suffix of the issuer in the audience of user tokens. No API has this audience, so none accepts a user for a client.
pub const ACCOUNT_SUFFIX: &str = "/account";

const MAX_WORKERS: usize = 256;

/// The parsed settings. `Debug` shows no secret.
///
/// # Examples
///
/// ```
/// use gatebird::Config;
///
/// let config = Config::load(|key| (key == "PORT").then(|| "8080".to_owned()))?;
/// assert_eq!(config.listen.port(), 8080);
/// # Ok::<(), gatebird::Exit>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `HOST` and `PORT`. Port 0 selects a free port.
    pub listen: SocketAddr,
    /// `PUBLIC_URL` without a trailing slash: the URL of this server for its clients.
    pub public_url: String,
    /// `DATABASE_URL`.
    #[doc(hidden)]
    pub database: Database,
    /// `JWT_SECRET`. Without it, a SQLite database has a secret in a file beside it.
    #[doc(hidden)]
    pub jwt_secret: Option<HmacSecret>,
    /// `JWT_SECRET_PREVIOUS`: still verifies, no longer signs.
    #[doc(hidden)]
    pub jwt_secret_previous: Option<HmacSecret>,
    /// `JWT_ALGORITHM`.
    #[doc(hidden)]
    pub jwt_algorithm: Algorithm,
    /// `KEY_ROTATION`: for how many seconds a stored key signs. `None` is `off`.
    pub key_rotation: Option<i64>,
    /// `JWT_ISSUER`: the `iss` of every token.
    pub issuer: String,
    /// `SCOPES`, separated by one space: the scopes that tokens can have.
    pub scopes: String,
    /// The issuer, then `AUDIENCES`: the audiences that tokens can have.
    pub audiences: Vec<String>,
    /// `TOKEN_TTL`: the lifetime of an access token in seconds.
    pub token_ttl: i64,
    /// `USER_TOKEN_TTL`: the lifetime of a user token in seconds.
    pub user_token_ttl: i64,
    /// `EXPIRED_TOKEN_STATUS`: 419 or 401.
    pub expired_token_status: StatusCode,
    /// `DEFAULT_LOCALE`: the language of requests whose `Accept-Language` names no available one.
    #[doc(hidden)]
    pub default_locale: Locale,
    /// `BCRYPT_COST`: each step doubles the work.
    pub bcrypt_cost: u32,
    /// `LIMIT_FREE`, `LIMIT_PREMIUM` and `SELF_SERVICE_PREMIUM`.
    #[doc(hidden)]
    pub plans: Plans,
    /// `LIMIT_ADDRESS`, `LIMIT_FAILURES`, `LIMIT_SIGNIN`, `LIMIT_SIGNUP`, `LIMIT_PASSWORDS`, `LIMIT_CHANGES` and `LIMIT_LOG`.
    #[doc(hidden)]
    pub budgets: BudgetLimits,
    /// `DOMAINS_PER_USER`. `None` is no limit.
    pub domains_per_user: Option<i64>,
    /// `POSTS_PER_USER`. `None` is no limit.
    pub posts_per_user: Option<i64>,
    /// `MAX_USERS`. `None` is no limit.
    pub max_users: Option<i64>,
    /// `MAX_DOMAINS`. `None` is no limit.
    pub max_domains: Option<i64>,
    /// `LIMIT_CONNECTIONS`: open connections per network. `None` is no limit.
    pub connections_per_network: Option<usize>,
    /// Not settings; tests shorten them.
    #[doc(hidden)]
    pub timeouts: Timeouts,
    /// `TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is trusted.
    #[doc(hidden)]
    pub trusted_proxies: Vec<IpNet>,
    /// `METRICS_ADDR`. `None` is `off`.
    pub metrics: Option<SocketAddr>,
    /// `WORKERS`: threads that serve requests.
    pub workers: usize,
    /// `SIGNUP`: whether anyone may create an account.
    pub signup_open: bool,
    /// `ACCESS_LOG`.
    #[doc(hidden)]
    pub access_log: AccessLog,
    /// `RUST_LOG`: an `env_logger` filter.
    pub log_filter: String,
    /// `ALLOW_LOCAL_HOSTS`.
    #[doc(hidden)]
    pub local_hosts: LocalHosts,
    /// `BROWSER_SECRETS`: whether a client secret from a browser is refused.
    pub refuse_browser_secrets: bool,
    /// `UNVERIFIED_HOSTS`: whether `/verify` refuses a required host whose control is not verified.
    pub refuse_unverified_hosts: bool,
    /// `API_V1_DEPRECATED` and `API_V1_SUNSET`.
    #[doc(hidden)]
    pub api_v1: Lifecycle,
    /// `API_V1_DOCS`: the URL of a page about the end of version 1.
    pub api_v1_docs: Option<String>,
    /// `PROOF`: whether a domain gets no tokens until control of its host is verified.
    pub verification_required: bool,
    /// `DNS_SERVER`: the server for verifications. `None` is the machine's resolver.
    pub dns_server: Option<SocketAddr>,
    /// Every setting in order, with secrets masked, for `check-config`.
    #[doc(hidden)]
    pub settings: Vec<Setting>,
    /// Messages about unknown keys in `.env`.
    pub warnings: Vec<String>,
}

/// The database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// An embedded SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

impl Database {
    /// The file of the generated JWT secret, beside the SQLite database.
    pub fn secret_file(file: &Path) -> PathBuf {
        file.with_file_name("jwt_secret")
    }
}

/// Does not show the password of the URL.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Database::Postgres(url) => write!(f, "{url:?}"),
        }
    }
}

/// How long a connection waits for its client.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request, or from the start of the connection, to the end of the request head.
    pub head: Duration,
    /// From the end of the request head to the end of the body. Handlers wait less for the bodies that they read.
    pub body: Duration,
    /// Between a response and the next request.
    pub idle: Duration,
    /// From the first byte of a response that cannot be sent at once to the last byte.
    pub written: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let [head, body, idle, written] = [10, 20, 30, 30].map(Duration::from_secs);
        Timeouts { head, body, idle, written }
    }
}

/// Which requests get a line in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Every request.
    All,
    /// Requests with a response of 4xx or 5xx.
    Errors,
    /// No request.
    Off,
}

/// The life cycle of an API version. Dates are the Unix seconds of their midnight in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Deprecated from this date. Not after `sunset`.
    pub deprecated: Option<i64>,
    /// Refused from this date.
    pub sunset: Option<i64>,
}

impl Lifecycle {
    fn read(r: &mut Reader<'_>) -> Lifecycle {
        let deprecated = r.read("API_V1_DEPRECATED", "", unless("", date));
        let sunset = r.read("API_V1_SUNSET", "", |text| match (unless("", date)(text)?, deprecated) {
            (Some(sunset), Some(deprecated)) if sunset < deprecated => Err("is before API_V1_DEPRECATED".to_owned()),
            (sunset, _) => Ok(sunset),
        });
        Lifecycle { deprecated, sunset }
    }
}

/// A setting as `check-config` prints it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The environment variable.
    pub key: &'static str,
    /// The effective value. Secrets are masked.
    pub shown: String,
    /// Where the value comes from.
    pub source: Source,
}

/// Reads settings and collects their values and problems.
struct Reader<'a> {
    find: &'a dyn Fn(&str) -> Option<RawValue>,
    /// The names of all settings that were read.
    keys: Vec<String>,
    settings: Vec<Setting>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// Reads one setting. An empty value counts as unset. After an invalid value, returns that of the default, so that
    /// all problems are found.
    fn read<T>(&mut self, key: &'static str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let valid = self.try_read(key, default, &parse, |_, text| text.to_owned());
        valid.unwrap_or_else(|| parse(default).expect("the default is valid"))
    }

    /// Reads one setting. `show` returns the value for `check-config`. `None` if the value is invalid.
    fn try_read<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T, &str) -> String,
    ) -> Option<T> {
        self.keys.push(key.to_owned());
        let set = (self.find)(key).filter(|found| !found.text.as_ref().is_ok_and(|text| text.trim().is_empty()));
        let unset = || RawValue { text: Ok(default.to_owned()), source: Source::Default };
        let RawValue { text, source } = set.unwrap_or_else(unset);
        let parsed = text.as_deref().map_err(Clone::clone).and_then(trimmed).and_then(|text| Ok((parse(text)?, text)));
        match parsed {
            Ok((value, text)) => {
                let shown = show(&value, text);
                self.settings.push(Setting { key, shown, source });
                Some(value)
            }
            Err(problem) => {
                // A value with an @ may be a URL with a password.
                let shown = text.ok().filter(|text| !SECRETS.contains(&key) && !text.contains('@'));
                self.problems.push(match (&source, shown) {
                    (Source::Default, _) => format!("{key} {problem}"),
                    (_, None) => format!("{key} {problem} ({source})"),
                    (_, Some(text)) => format!("{key} {problem} ({source}: {text:?})"),
                });
                None
            }
        }
    }
}

impl Config {
    /// Reads the settings from the environment, from files that it names, and from `.env` in the working directory.
    ///
    /// # Errors
    /// All invalid settings, one per line, with warnings about unknown keys.
    pub fn read() -> Result<Config, Exit> {
        let sources = Sources::read();
        Config::find_all(&sources, &|key| sources.find(key))
    }

    /// Reads the settings through `get`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn load(get: impl Fn(&str) -> Option<String>) -> Result<Config, Exit> {
        let found = |text| RawValue { text: Ok(text), source: Source::Environment };
        Config::find_all(&Sources::default(), &|key| get(key).map(found))
    }

    fn find_all(sources: &Sources, find: &dyn Fn(&str) -> Option<RawValue>) -> Result<Config, Exit> {
        let mut reader = Reader { find, keys: Vec::new(), settings: Vec::new(), problems: Vec::new() };
        let config = Config::parse(&mut reader);
        let Reader { mut keys, settings, problems, .. } = reader;
        keys.extend(SECRETS.map(|key| format!("{key}_FILE")));
        let problems = [sources.problems(&keys), problems].concat();
        let warnings = sources.unknown(&keys);
        if problems.is_empty() {
            Ok(Config { settings, warnings, ..config })
        } else {
            // An unknown key may be a misspelled one whose absence is the problem.
            Err(Exit::config([problems, warnings].concat().join("\n")))
        }
    }

    fn parse(r: &mut Reader<'_>) -> Config {
        let host = r.read("HOST", "127.0.0.1", parsed::<IpAddr>("must be an IP address such as 127.0.0.1 or ::"));
        let port = r.read("PORT", "8002", parsed::<u16>("must be a port number"));
        let public_url = r.read("PUBLIC_URL", &format!("http://localhost:{port}"), public_url);
        let find = r.find;
        // A variable that is not UTF-8 must not count as unset.
        let get = |key: &str| find(key).map(|found| found.text.unwrap_or_else(|_| char::REPLACEMENT_CHARACTER.into()));
        let get = |key: &str| get(key).filter(|text| !text.is_empty());
        let sqlite = "sqlite://data/gatebird.db";
        let database =
            r.try_read("DATABASE_URL", sqlite, |text| database(text, &get), |database, _| format!("{database:?}"));
        r.read("DATABASE_PLAINTEXT", "refuse", one_of(&[("refuse", ()), ("allow", ())]));
        let show_secret = |none: &'static str| {
            let shown = |secret: &HmacSecret| format!("{secret:?}");
            move |secret: &Option<HmacSecret>, _: &str| secret.as_ref().map_or(none.to_owned(), shown)
        };
        let secret = unless("", HmacSecret::parse);
        let jwt_secret = r.try_read(
            "JWT_SECRET",
            "",
            |text| match secret(text)? {
                None if matches!(database, Some(Database::Postgres(_))) => Err(
                    "is required with PostgreSQL, the same on every node; generate one with: openssl rand -base64 48"
                        .to_owned(),
                ),
                secret => Ok(secret),
            },
            show_secret("(in the file jwt_secret beside the database)"),
        );
        let jwt_secret_previous = r.try_read("JWT_SECRET_PREVIOUS", "", &secret, show_secret("(none)")).flatten();
        let algorithms = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];
        let jwt_algorithm = r.read("JWT_ALGORITHM", "HS256", one_of(&algorithms.map(|known| (known.name(), known))));
        let key_rotation = r.read("KEY_ROTATION", "30d", unless("off", rotation));
        let issuer = r.try_read("JWT_ISSUER", &public_url, issuer, |_, text| text.to_owned()).unwrap_or_default();
        let scopes = r.read("SCOPES", "posts:read posts:write", scopes);
        let audiences = with_issuer(&issuer, r.read("AUDIENCES", "", |text| audiences(text, &issuer)));
        let token_ttl = r.read("TOKEN_TTL", "1m", duration);
        let user_token_ttl = r.read("USER_TOKEN_TTL", "1h", duration);
        let statuses = [("419", StatusCode::from_u16(419).expect("a status")), ("401", StatusCode::UNAUTHORIZED)];
        let expired_token_status = r.read("EXPIRED_TOKEN_STATUS", "419", one_of(&statuses));
        let default_locale = r.read("DEFAULT_LOCALE", "en", one_of(&[("en", Locale::En), ("ko", Locale::Ko)]));
        let bcrypt_cost = r.read("BCRYPT_COST", "12", within(4..=16));
        let limit = unless("off", limit);
        let plans = Plans::read(|plan| {
            let rate = r.read(plan.limit.0, plan.limit.1, &limit);
            let choices = [("true", true), ("false", false)];
            (rate, plan.self_service.is_none_or(|key| r.read(key, "true", one_of(&choices))))
        });
        // Several domains may share a network.
        let highest = plans.of(Plan::HIGHEST).rule.as_ref();
        let requests = highest.map_or("off".to_owned(), |rule| rule.limit.times(10).to_string());
        let budgets = BudgetLimits {
            requests: r.read("LIMIT_ADDRESS", &requests, &limit),
            failures: r.read("LIMIT_FAILURES", "300/m", &limit),
            sign_ins: r.read("LIMIT_SIGNIN", "300/m", &limit),
            sign_ups: r.read("LIMIT_SIGNUP", "300/m", &limit),
            passwords: r.read("LIMIT_PASSWORDS", "50/d", &limit),
            changes: r.read("LIMIT_CHANGES", "120/m", &limit),
            lines: r.read("LIMIT_LOG", "60/m", &limit),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let metrics = parsed("must be an address such as 127.0.0.1:9002, or off");
        let access_logs = [("errors", AccessLog::Errors), ("all", AccessLog::All), ("off", AccessLog::Off)];
        let on_loopback = if is_loopback_url(&public_url) { "true" } else { "false" };
        let local_hosts = [("true", LocalHosts::Allowed), ("false", LocalHosts::Refused)];
        let refusal = [("allow", false), ("refuse", true)];
        // The settings are read in this order.
        Config {
            listen: SocketAddr::new(host, port),
            public_url,
            database: database.unwrap_or_else(|| Database::Sqlite(sqlite.into())),
            jwt_secret: jwt_secret.flatten(),
            jwt_secret_previous,
            jwt_algorithm,
            key_rotation,
            issuer,
            scopes,
            audiences,
            token_ttl,
            user_token_ttl,
            expired_token_status,
            default_locale,
            bcrypt_cost,
            plans,
            budgets,
            domains_per_user: r.read("DOMAINS_PER_USER", "100", unless("off", maximum)),
            posts_per_user: r.read("POSTS_PER_USER", "10000", unless("off", maximum)),
            max_users: r.read("MAX_USERS", "1000000", unless("off", maximum)),
            max_domains: r.read("MAX_DOMAINS", "1000000", unless("off", maximum)),
            connections_per_network: r.read("LIMIT_CONNECTIONS", "1024", unless("off", maximum)),
            timeouts: Timeouts::default(),
            trusted_proxies: r.read("TRUSTED_PROXIES", "", networks),
            metrics: r.read("METRICS_ADDR", "127.0.0.1:9002", unless("off", metrics)),
            workers: r.read("WORKERS", &cores.to_string(), within(1..=MAX_WORKERS)),
            signup_open: r.read("SIGNUP", "open", one_of(&[("open", true), ("closed", false)])),
            access_log: r.read("ACCESS_LOG", "errors", one_of(&access_logs)),
            log_filter: r.read("RUST_LOG", "info", log_filter),
            local_hosts: r.read("ALLOW_LOCAL_HOSTS", on_loopback, one_of(&local_hosts)),
            refuse_browser_secrets: r.read("BROWSER_SECRETS", "allow", one_of(&refusal)),
            refuse_unverified_hosts: r.read("UNVERIFIED_HOSTS", "refuse", one_of(&refusal)),
            api_v1: Lifecycle::read(r),
            api_v1_docs: r.read("API_V1_DOCS", "", unless("", url)),
            verification_required: r.read("PROOF", "optional", one_of(&[("optional", false), ("required", true)])),
            dns_server: r.read("DNS_SERVER", "", unless("", parsed("must be an address such as 9.9.9.9:53"))),
            settings: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
