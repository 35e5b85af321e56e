//! Parsers of setting values. Errors are sentences without a subject, to follow the name of the setting.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use time::Date;
use url::{Host, Url};

use super::{ACCOUNT_SUFFIX, Database, PostgresUrl};
use crate::plan::{Limit, seconds_of};
use crate::usage::DAY;

pub(super) fn parsed<T: FromStr>(problem: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| problem.to_owned())
}

pub(super) fn one_of<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| match choices.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(*value),
        None => {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Err(format!("must be {}", names.join(" or ")))
        }
    }
}

/// Parses a value, or the word for no value.
pub(super) fn unless<T>(
    word: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| if text == word { Ok(None) } else { parse(text).map(Some) }
}

/// Parses a number of a range.
pub(super) fn within<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {} to {}", range.start(), range.end())),
    }
}

/// Parses a duration such as `30s`, `1m`, `1h` or `1d`, from one second to 30 days. Returns seconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let seconds = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = i64::from(number.parse::<u32>().ok()?) * i64::from(seconds_of(unit)?);
        (1..=30 * DAY).contains(&seconds).then_some(seconds)
    };
    seconds().ok_or_else(|| "must be a duration such as 30s, 1m, 1h or 1d, at most 30d".to_owned())
}

/// Parses `KEY_ROTATION`. Returns seconds. The minimum leaves time to publish the next key.
pub(super) fn rotation(text: &str) -> Result<i64, String> {
    match duration(text) {
        Ok(seconds @ 3600..) => Ok(seconds),
        _ => Err("must be a duration from 1h to 30d, or off".to_owned()),
    }
}

const SPACES: &str = "must be separated by spaces, not by commas or semicolons";

/// Parses scopes (RFC 6749 §3.3). Returns them separated by one space.
pub(super) fn scopes(text: &str) -> Result<String, String> {
    if text.contains([',', ';']) {
        return Err(SPACES.to_owned());
    }
    let scopes: Vec<&str> = text.split_ascii_whitespace().collect();
    let token = |byte: u8| byte == b'!' || (b'#'..=b'~').contains(&byte) && byte != b'\\';
    let good = scopes.iter().all(|scope| scope.len() <= 64 && scope.bytes().all(token));
    let once = scopes.iter().collect::<HashSet<_>>().len() == scopes.len();
    if good && once && !scopes.is_empty() && text.len() <= 1024 {
        Ok(scopes.join(" "))
    } else {
        Err("must be distinct scopes such as posts:read, separated by spaces, at most 1024 characters".to_owned())
    }
}

/// Parses audiences: distinct absolute URIs without a fragment (RFC 8707 §2), except the audience of user tokens.
pub(super) fn audiences(text: &str, issuer: &str) -> Result<Vec<String>, String> {
    let is_absolute = |uri: &str| Url::parse(uri).is_ok_and(|url| url.fragment().is_none());
    // A comma can be a part of a URI, but a comma before another URI separates a list.
    let is_list = |part: &str| part.split([',', ';']).skip(1).any(|next| next.is_empty() || is_absolute(next));
    let audience = |part: &str| {
        if is_list(part) {
            return Err(SPACES.to_owned());
        }
        let plain = part.len() <= 200 && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        if plain && is_absolute(part) {
            Ok(part.to_owned())
        } else {
            Err(format!("has {part:?}, which is not an absolute URI such as https://api.example.com"))
        }
    };
    // A token with all audiences and all scopes must stay below the size limit of tokens.
    if text.len() > 2048 {
        return Err("has more than 2048 characters".to_owned());
    }
    let audiences: Vec<String> = text.split_ascii_whitespace().map(audience).collect::<Result<_, _>>()?;
    if let Some(account) = audiences.iter().find(|audience| audience.strip_prefix(issuer) == Some(ACCOUNT_SUFFIX)) {
        return Err(format!("has {account:?}, which is the audience of user tokens"));
    }
    let mut seen = HashSet::new();
    match audiences.iter().find(|audience| !seen.insert(audience.as_str())) {
        Some(twice) => Err(format!("has {twice:?} twice")),
        None => Ok(audiences),
    }
}

/// Adds the issuer, which is the first audience.
pub(super) fn with_issuer(issuer: &str, mut others: Vec<String>) -> Vec<String> {
    others.retain(|audience| audience != issuer);
    others.insert(0, issuer.to_owned());
    others
}

/// Parses the grace of a secret rotation: 0, or a duration of at most 30 days. Returns seconds.
///
/// # Errors
/// A sentence without a subject.
pub fn grace(text: &str) -> Result<i64, String> {
    match text {
        "0" | "0s" => Ok(0),
        _ => duration(text),
    }
}

pub(super) fn limit(text: &str) -> Result<Limit, String> {
    Limit::parse(text).ok_or_else(|| "must be a limit such as 60/m, 5/s, 1000/h or 50/d, or off".to_owned())
}

/// Parses the largest number of something.
pub(super) fn maximum<T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number <= 1_000_000).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| "must be a number up to 1000000, or off".to_owned())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    match env_filter::Builder::new().try_parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a filter such as info or warn,gatebird=debug".to_owned()),
    }
}

pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |part: &str| part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| network(part).map_err(|_| format!("has {part:?}, which is not a network such as 10.0.0.0/8")))
        .collect()
}

/// Parses a date such as `2027-01-31`. Returns the Unix seconds of its midnight in UTC.
///
/// # Errors
/// A sentence without a subject.
pub fn date(text: &str) -> Result<i64, String> {
    midnight(text).ok_or_else(|| "must be a date such as 2027-01-31, from 1970 on".to_owned())
}

fn midnight(text: &str) -> Option<i64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let month: u8 = month.parse().ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month.try_into().ok()?, day.parse().ok()?).ok()?;
    let has_canonical_form = date.to_string() == text;
    Some(date.midnight().as_utc().unix_timestamp()).filter(|seconds| has_canonical_form && *seconds >= 0)
}

pub(super) fn issuer(text: &str) -> Result<String, String> {
    let plain = text.len() <= 200 && text.bytes().all(|byte| byte.is_ascii_graphic());
    plain.then(|| text.to_owned()).ok_or_else(|| "must be at most 200 visible ASCII characters".to_owned())
}

pub(super) fn public_url(text: &str) -> Result<String, String> {
    let problem = || "must be a URL such as https://gate.example.com".to_owned();
    let url = Url::parse(text).map_err(|_| problem())?;
    let usable = text.bytes().all(|byte| byte.is_ascii_graphic())
        && matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.query().is_none()
        && url.fragment().is_none();
    usable.then(|| text.trim_end_matches('/').to_owned()).ok_or_else(problem)
}

pub(super) fn url(text: &str) -> Result<String, String> {
    // A `>` would end the URL in a `Link` header.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
    let is_web = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let problem = || "must be a URL such as https://docs.example.com/v1".to_owned();
    if is_plain && is_web { Ok(text.to_owned()) } else { Err(problem()) }
}

pub(super) fn is_loopback_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| match url.host() {
        Some(Host::Domain(name)) => is_loopback_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}

/// Trims a value. Refuses quotes around it: the parser of `.env` has already removed them, so these would be part of
/// the value.
pub(super) fn trimmed(text: &str) -> Result<&str, String> {
    const QUOTES: [char; 7] = ['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201C}', '\u{201D}'];
    let text = text.trim();
    if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
        Err("begins or ends with a quote, which would be part of the value; remove the quotes".to_owned())
    } else {
        Ok(text)
    }
}

fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn database(text: &str, get: &dyn Fn(&str) -> Option<String>) -> Result<Database, String> {
    if let Some(path) = text.strip_prefix("sqlite://") {
        return if path.is_empty() || path.contains(['?', '#']) || path.contains(":memory:") {
            Err("must name a file, such as sqlite://data/gatebird.db".to_owned())
        } else {
            Ok(Database::Sqlite(PathBuf::from(path)))
        };
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("must begin with sqlite:// or postgres://".to_owned());
    }
    let url = PostgresUrl::parse(text)?;
    let allowed = get("DATABASE_PLAINTEXT").as_deref() == Some("allow");
    if allowed || stays_on_this_machine(&url, get) {
        Ok(Database::Postgres(url))
    } else {
        Err("names a PostgreSQL on another machine, but this build has no TLS to PostgreSQL and would connect without \
         encryption; use a tunnel, or set DATABASE_PLAINTEXT=allow in a private network"
            .to_owned())
    }
}

/// Whether libpq would connect through a Unix socket or the loopback interface. The hosts come from the URL and from
/// libpq's environment variables.
fn stays_on_this_machine(url: &PostgresUrl, get: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut hosts = url.hosts.clone();
    if hosts.iter().all(String::is_empty) {
        hosts.extend(get("PGHOST"));
    }
    hosts.extend(get("PGHOSTADDR"));
    let local = |host: &str| host.is_empty() || host.starts_with(['/', '@']) || is_loopback_name(host);
    hosts.iter().all(|hosts| hosts.split(',').all(local)) && !url.has_service && get("PGSERVICE").is_none()
}
