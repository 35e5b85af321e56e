//! The URL of a PostgreSQL database, parsed as libpq parses it. A URL that libpq would refuse is refused here first,
//! because the messages of libpq quote the invalid part, which may be a part of the password.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The parameters of libpq.
const PARAMETERS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "options",
    "passfile",
    "password",
    "port",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// A URL that libpq accepts. `Debug` masks its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    text: String,
    shown: String,
    /// The hosts and addresses in the URL.
    pub(super) hosts: Vec<String>,
    /// Whether the URL names a service, whose file can name any host.
    pub(super) has_service: bool,
}

impl PostgresUrl {
    /// Parses a URL that begins with `postgres://` or `postgresql://`.
    pub(super) fn parse(text: &str) -> Result<PostgresUrl, String> {
        let encode = || {
            "must have at most one @, before the host: percent-encode every character of the name and the password except \
             letters, digits, -, . and _"
                .to_owned()
        };
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (credentials, hosts) = authority.split_once('@').unwrap_or(("", authority));
        let is_plain = |character: char| !character.is_whitespace() && !character.is_control() && character != '#';
        if [hosts, database, query].iter().any(|part| part.contains('@')) || !text.chars().all(is_plain) {
            return Err(encode());
        }
        // An escape must have two hexadecimal digits and must not be %00.
        let is_escape = |escape: &str| {
            let digits = escape.get(..2).unwrap_or_default();
            u8::from_str_radix(digits, 16).is_ok_and(|byte| byte > 0 && !digits.starts_with('+'))
        };
        if !text.split('%').skip(1).all(is_escape) {
            return Err(encode());
        }
        let unreadable = || "has an invalid host or port; write host:port,host:port".to_owned();
        let named: Option<Vec<String>> = hosts.split(',').map(host).collect();
        let mut hosts: Vec<String> = named.ok_or_else(unreadable)?;

        let mut shown = format!("{scheme}://{}", text_without_password(credentials, authority));
        shown.push_str(&place[authority.len()..]);
        let mut has_service = false;
        for (number, parameter) in query.split('&').filter(|parameter| !parameter.is_empty()).enumerate() {
            let (name, value) = parameter.split_once('=').ok_or("has a parameter without a value")?;
            check_parameter(name, value)?;
            match name {
                "host" | "hostaddr" => hosts.extend(decoded(value).split(',').map(str::to_owned)),
                "service" | "servicefile" => has_service = true,
                _ => {}
            }
            let is_secret = name.contains("password") || name.starts_with("scram_");
            shown.push(if number == 0 { '?' } else { '&' });
            shown.push_str(&format!("{name}={}", if is_secret { "***" } else { value }));
        }
        Ok(PostgresUrl { text: text.to_owned(), shown, hosts, has_service })
    }

    /// The URL with its secrets, for libpq.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Parses a host of the list and drops its port.
fn host(text: &str) -> Option<String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').and_then(|(host, port)| match port {
            "" => Some((host, "")),
            _ => Some((host, port.strip_prefix(':')?)),
        })?,
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_port = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port.then(|| decoded(host))
}

fn check_parameter(name: &str, value: &str) -> Result<(), String> {
    let needs_tls = match name {
        "sslmode" => ["require", "verify-ca", "verify-full"].contains(&value),
        "channel_binding" | "gssencmode" => value == "require",
        "sslnegotiation" => value == "direct",
        "sslrootcert" => value == "system",
        // Other drivers use it for sslmode=require.
        "ssl" => true,
        _ => false,
    };
    if needs_tls {
        return Err(format!(
            "requires {name}={value}, but this build has no TLS to PostgreSQL; use a tunnel, or a PostgreSQL on this machine"
        ));
    }
    let is_name = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if PARAMETERS.contains(&name) {
        Ok(())
    } else if name.to_lowercase().contains("schema") {
        Err(format!("has the parameter {name}, which libpq does not know; write options=-csearch_path%3DNAME"))
    } else if is_name {
        Err(format!("has the parameter {name}, which libpq does not know"))
    } else {
        Err("has a parameter that libpq does not know".to_owned())
    }
}

fn text_without_password(credentials: &str, authority: &str) -> String {
    let hosts = authority.strip_prefix(credentials).unwrap_or(authority);
    match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:***{hosts}"),
        None => authority.to_owned(),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
