//! The settings, read once at start from the environment and `.env`. All invalid values are reported together.

mod algorithm;
mod hmac_secret;
mod postgres_url;
mod sources;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
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
    audiences, database, duration, is_loopback_url, issuer, limit, log_filter, networks, one_of, optional_date,
    optional_maximum, optional_secret, optional_url, parsed, public_url, rotation, scopes, trimmed, with_issuer,
};
pub use self::value::{date, grace};
use crate::exit::Exit;
use crate::host::LocalHosts;
use crate::locale::Locale;
use crate::plan::{Limit, Plans};
use crate::shares::BudgetLimits;

/// Suffix of the issuer in the audience of user tokens. No API has this audience, so none accepts a user for a client.
pub const ACCOUNT_SUFFIX: &str = "/account";

/// The parsed settings. `Debug` shows no secret.
///
/// # Examples
///
/// ```
/// use gatebird::Config;
///
/// let config = Config::load(|key| (key == "PORT").then(|| "8080".to_owned()))?;
/// assert_eq!(config.listen.port(), 8080);
/// # Ok::<(), gatebird::Problems>(())
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
    /// From the end of the request head to the end of the body. Handlers have a shorter limit for the bodies that they
    /// read.
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

/// All invalid settings, one per line, with warnings about unknown keys.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Exit {
    fn from(problems: Problems) -> Exit {
        Exit::config(problems)
    }
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
    /// Reads one setting. An empty value counts as unset.
    fn read<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read_shown(key, default, parse, |_, text| text.to_owned())
    }

    fn read_shown<T>(
        &mut self,
        key: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        show: impl FnOnce(&T, &str) -> String,
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
    /// All invalid settings.
    pub fn read() -> Result<Config, Problems> {
        Config::from_sources(&Sources::read(), |sources, key| sources.find(key))
    }

    /// Reads the settings through `get`.
    ///
    /// # Errors
    /// All invalid settings.
    pub fn load(get: impl Fn(&str) -> Option<String>) -> Result<Config, Problems> {
        let found = |text| RawValue { text: Ok(text), source: Source::Environment };
        Config::from_sources(&Sources::default(), |_, key| get(key).map(found))
    }

    fn from_sources(sources: &Sources, find: impl Fn(&Sources, &str) -> Option<RawValue>) -> Result<Config, Problems> {
        let find = |key: &str| find(sources, key);
        let mut reader = Reader { find: &find, keys: Vec::new(), settings: Vec::new(), problems: Vec::new() };
        let config = Config::parse(&mut reader);
        let Reader { mut keys, settings, problems, .. } = reader;
        keys.extend(SECRETS.map(|key| format!("{key}_FILE")));
        let problems = [sources.problems(&keys), problems].concat();
        let warnings = sources.unknown(&keys);
        match (config, problems.is_empty()) {
            (Some(config), true) => Ok(Config { settings, warnings, ..config }),
            // An unknown key may be a misspelled one whose absence is the problem.
            _ => Err(Problems([problems, warnings].concat())),
        }
    }

    fn parse(r: &mut Reader<'_>) -> Option<Config> {
        let host = r.read("HOST", "127.0.0.1", parsed::<IpAddr>("must be an IP address such as 127.0.0.1 or ::"));
        let port = r.read("PORT", "8002", parsed::<u16>("must be a port number"));
        let local_url = format!("http://localhost:{}", port.unwrap_or(8002));
        let public_url = r.read("PUBLIC_URL", &local_url, public_url);
        let find = r.find;
        // A variable that is not UTF-8 must not count as unset.
        let get = |key: &str| find(key).map(|found| found.text.unwrap_or_else(|_| char::REPLACEMENT_CHARACTER.into()));
        let get = |key: &str| get(key).filter(|text| !text.is_empty());
        let database = r.read_shown(
            "DATABASE_URL",
            "sqlite://data/gatebird.db",
            |text| database(text, &get),
            |database, _| format!("{database:?}"),
        );
        r.read("DATABASE_PLAINTEXT", "refuse", one_of(&[("refuse", ()), ("allow", ())]));
        let embedded = matches!(database, Some(Database::Sqlite(_)) | None);
        let show_secret = |secret: &Option<HmacSecret>, _: &str| match secret {
            Some(secret) => format!("{secret:?}"),
            None => "(none)".to_owned(),
        };
        let jwt_secret = r.read_shown(
            "JWT_SECRET",
            "",
            |text| match optional_secret(text)? {
                None if !embedded => Err(
                    "is required with PostgreSQL, the same on every node; generate one with: openssl rand -base64 48"
                        .to_owned(),
                ),
                secret => Ok(secret),
            },
            |secret, _| match secret {
                Some(secret) => format!("{secret:?}"),
                None => "(in the file jwt_secret beside the database)".to_owned(),
            },
        );
        let previous = r.read_shown("JWT_SECRET_PREVIOUS", "", optional_secret, show_secret);
        let algorithms = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];
        let jwt_algorithm = r.read("JWT_ALGORITHM", "HS256", one_of(&algorithms.map(|known| (known.name(), known))));
        let key_rotation = r.read("KEY_ROTATION", "30d", rotation);
        let issuer = r.read("JWT_ISSUER", public_url.as_deref().unwrap_or(&local_url), issuer);
        let scopes = r.read("SCOPES", "posts:read posts:write", scopes);
        let audiences = r.read("AUDIENCES", "", |text| audiences(text, issuer.as_deref().unwrap_or_default()));
        let token_ttl = r.read("TOKEN_TTL", "1m", duration);
        let user_token_ttl = r.read("USER_TOKEN_TTL", "1h", duration);
        let status_419 = StatusCode::from_u16(419).expect("419 is a status");
        let expired_token_status =
            r.read("EXPIRED_TOKEN_STATUS", "419", one_of(&[("419", status_419), ("401", StatusCode::UNAUTHORIZED)]));
        let default_locale = r.read("DEFAULT_LOCALE", "en", one_of(&[("en", Locale::En), ("ko", Locale::Ko)]));
        let bcrypt_cost = r.read("BCRYPT_COST", "12", |text| match text.parse() {
            Ok(cost @ 4..=16) => Ok(cost),
            _ => Err("must be a number from 4 to 16".to_owned()),
        });
        let plans = Plans::read(|plan| {
            let (key, default) = plan.limit;
            let limit = r.read(key, default, limit);
            let choice = |key| r.read(key, "true", one_of(&[("true", true), ("false", false)]));
            let self_service = plan.self_service.map_or(Some(true), choice);
            Some((limit?, self_service?))
        });
        // Several domains may share a network.
        let tenfold = |limit: Limit| limit.times(NonZeroU64::new(10).expect("not 0")).to_string();
        let requests = plans.as_ref().and_then(Plans::highest_limit).map_or("off".to_owned(), tenfold);
        let requests = r.read("LIMIT_ADDRESS", &requests, limit);
        let failures = r.read("LIMIT_FAILURES", "300/m", limit);
        let sign_ins = r.read("LIMIT_SIGNIN", "300/m", limit);
        let sign_ups = r.read("LIMIT_SIGNUP", "300/m", limit);
        let passwords = r.read("LIMIT_PASSWORDS", "50/d", limit);
        let changes = r.read("LIMIT_CHANGES", "120/m", limit);
        let lines = r.read("LIMIT_LOG", "60/m", limit);
        let domains_per_user = r.read("DOMAINS_PER_USER", "100", optional_maximum);
        let posts_per_user = r.read("POSTS_PER_USER", "10000", optional_maximum);
        let max_users = r.read("MAX_USERS", "1000000", optional_maximum);
        let max_domains = r.read("MAX_DOMAINS", "1000000", optional_maximum);
        let connections_per_network = r.read("LIMIT_CONNECTIONS", "1024", optional_maximum);
        let trusted_proxies = r.read("TRUSTED_PROXIES", "", networks);
        let metrics = r.read("METRICS_ADDR", "127.0.0.1:9002", |text| match text {
            "off" => Ok(None),
            _ => parsed("must be an address such as 127.0.0.1:9002, or off")(text).map(Some),
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = r.read("WORKERS", &cores.to_string(), |text| match text.parse() {
            Ok(workers @ 1..=256) => Ok(workers),
            _ => Err("must be a number from 1 to 256".to_owned()),
        });
        let signup_open = r.read("SIGNUP", "open", one_of(&[("open", true), ("closed", false)]));
        let access_log = r.read(
            "ACCESS_LOG",
            "errors",
            one_of(&[("errors", AccessLog::Errors), ("all", AccessLog::All), ("off", AccessLog::Off)]),
        );
        let log_filter = r.read("RUST_LOG", "info", log_filter);
        let on_loopback = public_url.as_deref().is_some_and(is_loopback_url);
        let local_hosts = r.read(
            "ALLOW_LOCAL_HOSTS",
            if on_loopback { "true" } else { "false" },
            one_of(&[("true", LocalHosts::Allowed), ("false", LocalHosts::Refused)]),
        );
        let refuse_browser_secrets = r.read("BROWSER_SECRETS", "allow", one_of(&[("allow", false), ("refuse", true)]));
        let refuse_unverified_hosts =
            r.read("UNVERIFIED_HOSTS", "refuse", one_of(&[("refuse", true), ("allow", false)]));
        let deprecated = r.read("API_V1_DEPRECATED", "", optional_date);
        let sunset = r.read("API_V1_SUNSET", "", |text| match (optional_date(text)?, deprecated.flatten()) {
            (Some(sunset), Some(deprecated)) if sunset < deprecated => Err("is before API_V1_DEPRECATED".to_owned()),
            (sunset, _) => Ok(sunset),
        });
        let api_v1_docs = r.read("API_V1_DOCS", "", optional_url);
        let verification_required = r.read("PROOF", "optional", one_of(&[("optional", false), ("required", true)]));
        let dns_server = r.read("DNS_SERVER", "", |text| match text {
            "" => Ok(None),
            _ => parsed("must be an address such as 9.9.9.9:53")(text).map(Some),
        });
        Some(Config {
            listen: SocketAddr::new(host?, port?),
            public_url: public_url?,
            database: database?,
            jwt_secret: jwt_secret?,
            jwt_secret_previous: previous?,
            jwt_algorithm: jwt_algorithm?,
            key_rotation: key_rotation?,
            audiences: with_issuer(issuer.as_deref()?, audiences?),
            issuer: issuer?,
            scopes: scopes?,
            token_ttl: token_ttl?,
            user_token_ttl: user_token_ttl?,
            expired_token_status: expired_token_status?,
            default_locale: default_locale?,
            bcrypt_cost: bcrypt_cost?,
            plans: plans?,
            budgets: BudgetLimits {
                requests: requests?,
                failures: failures?,
                sign_ins: sign_ins?,
                sign_ups: sign_ups?,
                passwords: passwords?,
                changes: changes?,
                lines: lines?,
            },
            domains_per_user: domains_per_user?,
            posts_per_user: posts_per_user?,
            max_users: max_users?,
            max_domains: max_domains?,
            connections_per_network: connections_per_network?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            timeouts: Timeouts::default(),
            trusted_proxies: trusted_proxies?,
            metrics: metrics?,
            workers: workers?,
            signup_open: signup_open?,
            access_log: access_log?,
            log_filter: log_filter?,
            local_hosts: local_hosts?,
            refuse_browser_secrets: refuse_browser_secrets?,
            refuse_unverified_hosts: refuse_unverified_hosts?,
            api_v1: Lifecycle { deprecated: deprecated?, sunset: sunset? },
            api_v1_docs: api_v1_docs?,
            verification_required: verification_required?,
            dns_server: dns_server?,
            settings: Vec::new(),
            warnings: Vec::new(),
        })
    }
}
