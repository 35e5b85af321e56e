//! Third-party hosts: which may be registered, their canonical spelling, and the browser origins that belong to them.
//! This is text processing only, without DNS, HTTP or storage.

use std::fmt;
use std::net::Ipv6Addr;

use icu_normalizer::ComposingNormalizerBorrowed;

mod idna;
#[cfg(test)]
mod tests;

/// Largest input in bytes. The longest name of DNS is shorter, even in decomposed Hangul.
const MAX_INPUT: usize = 4096;
/// Largest size of a DNS name in octets, without the root's dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// Largest size of a DNS label in octets (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Invisible characters that IDNA accepts: the joiners and the blank Braille pattern. A name that needs a joiner, such
/// as a Persian one, can be given in its `xn--` form, where it hides nothing.
const INVISIBLE: [char; 3] = ['\u{200C}', '\u{200D}', '\u{2800}'];

/// The only character outside ASCII that lower-cases to an ASCII letter.
const KELVIN_SIGN: char = '\u{212A}';

/// Top-level names that are never public: RFC 3172, 6761, 6762 (with appendix G), 7686 and 9476, and `localdomain` by
/// convention. `test` and `example` are missing on purpose, for experiments.
const SPECIAL_USE: [&str; 13] = [
    "alt",
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
];

/// A third-party host as registered: `name` or `name:port` in lower-case ASCII (IDNA A-labels).
///
/// The port is part of the identity, except for the default port 443: `shop.example:443` is the same host as
/// `shop.example`, but `shop.example:8443` is another one. Otherwise, an owner who lost a host (by suspension, or
/// because another user verified it) could register it again with the port. For `localhost`, which has http origins
/// too, 80 is also a default port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host(String);

/// Whether `localhost`, with or without a port, may be registered (`ALLOW_LOCAL_HOSTS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalHosts {
    /// `localhost` may be registered.
    Allowed,
    /// `localhost` is refused like other names that are not public.
    Refused,
}

/// Why an input is not a host. `Display` addresses the person who typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The input is empty.
    #[error("a host is required")]
    Empty,
    /// The whole name is longer than DNS allows.
    #[error("a host name has at most {MAX_NAME} characters")]
    TooLong,
    /// One label is longer than DNS allows.
    #[error("each part of a host name has at most {MAX_LABEL} characters")]
    Label,
    /// The input has a scheme, user, path, query or fragment.
    #[error("give the host only: no scheme, user, path or query")]
    Scheme,
    /// The input contains `*`.
    #[error("wildcards are not allowed: register each host by its full name")]
    Wildcard,
    /// An IP address in any notation, or a name that URL parsers read as one.
    #[error("an IP address is not allowed: give a host name")]
    IpLiteral,
    /// The port is not 1 to 65535 in canonical decimal, or there is a second colon.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// A leading, trailing or doubled dot.
    #[error("a host name has no leading, trailing or double dot")]
    EmptyLabel,
    /// The character is not allowed: white space, a control or invisible character, an underscore, a symbol,
    /// punctuation, or a character that IDNA would replace.
    #[error("the character U+{:04X} is not allowed in a host name", u32::from(*.0))]
    Character(char),
    /// A label begins or ends with a hyphen.
    #[error("no part of a host name may begin or end with a hyphen")]
    Hyphen,
    /// The internationalised name is invalid (UTS #46, RFC 5893): an `xn--` label that does not round-trip, a leading
    /// mark, or mixed directions.
    #[error("this is not a valid internationalised host name")]
    Idna,
    /// `localhost`, which is not allowed on this server.
    #[error("localhost is not allowed here")]
    Local,
    /// A name that is never public, such as `*.internal` or `*.local`.
    #[error("this name is reserved for private or special use")]
    SpecialUse,
    /// A single label that is not a known suffix, such as `intranet1`.
    #[error("give the full host name, for example www.example.com")]
    SingleLabel,
    /// A public suffix, below which different owners register names, such as `co.uk` or `github.io`.
    #[error("this is a public suffix that many owners share: register a name below it")]
    PublicSuffix,
}

impl Host {
    /// Parses `name[:port]` as a person types it: in any case, in Unicode or as A-labels.
    pub fn parse(input: &str, local: LocalHosts) -> Result<Host, HostError> {
        refuse_other_notations(input)?;
        let (name, port) = match input.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port)?)),
            None => (input, None),
        };
        let name = canonical_name(name)?;
        check_public(&name, local)?;
        let host = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        Ok(Host(without_default_port(&host).to_owned()))
    }

    /// A host that [`Host::parse`] accepted before, from the database. It is not checked again.
    pub fn from_stored(stored: String) -> Host {
        Host(stored)
    }

    /// `name` or `name:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the port.
    pub fn name(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(name, _)| name)
    }

    /// The port, unless it is the default.
    pub fn port(&self) -> Option<u16> {
        self.0.split_once(':').and_then(|(_, port)| port.parse().ok())
    }

    /// Whether `text`, such as a `Host` header, names this host: in any case, with or without the default port, in
    /// A-labels.
    pub fn is_named(&self, text: &str) -> bool {
        without_default_port(&self.0).eq_ignore_ascii_case(without_default_port(text))
    }

    /// Whether `origin`, the value of an `Origin` header, is this host's https origin, exactly as browsers write it
    /// (RFC 6454 §6.2): in lower case, without a trailing slash or dot, without a default port.
    ///
    /// `shop.example` matches only `https://shop.example`. A stored `shop.example:443` matches the same origin. Only
    /// `localhost` matches http origins. `null` matches nothing.
    pub fn matches_origin(&self, origin: &str) -> bool {
        match origin.split_once("://") {
            Some(("https", authority)) => authority == self.without_default(443),
            Some(("http", authority)) => self.name() == "localhost" && authority == self.without_default(80),
            _ => false,
        }
    }

    /// All hosts, registered or not, that match `origin` by [`Host::matches_origin`].
    pub fn of_origin(origin: &str) -> impl Iterator<Item = Host> {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let spellings = [authority.to_owned(), format!("{authority}:443"), format!("{authority}:80")];
        spellings.into_iter().map(Host).filter(move |host| host.matches_origin(origin))
    }

    fn without_default(&self, port: u16) -> &str {
        if self.port() == Some(port) { self.name() } else { &self.0 }
    }
}

impl AsRef<str> for Host {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes a default port from `name[:port]`: 443, and for `localhost` also 80.
fn without_default_port(host: &str) -> &str {
    match host.split_once(':') {
        Some((name, "443")) => name,
        Some((name, "80")) if name.eq_ignore_ascii_case("localhost") => name,
        _ => host,
    }
}

/// Refuses input that is not `name[:port]`, with a more helpful error than [`HostError::Character`].
fn refuse_other_notations(input: &str) -> Result<(), HostError> {
    if input.is_empty() {
        return Err(HostError::Empty);
    }
    if input.len() > MAX_INPUT {
        return Err(HostError::TooLong);
    }
    if input.contains(['/', '\\', '@', '?', '#']) {
        return Err(HostError::Scheme);
    }
    if input.contains('*') {
        return Err(HostError::Wildcard);
    }
    let without_zone = input.split('%').next().unwrap_or(input);
    if input.starts_with('[') || without_zone.parse::<Ipv6Addr>().is_ok() {
        return Err(HostError::IpLiteral);
    }
    Ok(())
}

fn parse_port(port: &str) -> Result<u16, HostError> {
    // `u16::from_str` accepts `+80`, and leading zeros would give a port several spellings.
    let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| plain).ok_or(HostError::Port)
}

/// The canonical spelling of a name: lower-case A-labels.
fn canonical_name(name: &str) -> Result<String, HostError> {
    let typed = lower_nfc(name)?;
    if let Some(c) = typed.chars().find(|&c| !is_allowed(c)) {
        return Err(HostError::Character(c));
    }
    if typed.split('.').any(str::is_empty) {
        return Err(HostError::EmptyLabel);
    }
    let hyphenated = |label: &str| label.starts_with('-') || label.ends_with('-');
    if typed.split('.').any(hyphenated) {
        return Err(HostError::Hyphen);
    }
    // A URL parser detects names that are IPv4 addresses in other notations, such as 0x7f.1 and 2130706433.
    let ascii = match url::Host::parse(&typed) {
        Ok(url::Host::Domain(ascii)) => ascii,
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => return Err(HostError::IpLiteral),
        Err(url::ParseError::InvalidIpv4Address) => return Err(HostError::IpLiteral),
        Err(_) => return Err(HostError::Idna),
    };
    if ascii.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(HostError::Label);
    }
    if ascii.len() > MAX_NAME {
        return Err(HostError::TooLong);
    }
    check_labels(&ascii)?;
    Ok(ascii)
}

/// Removes the two accepted differences in spelling: case, and composed or decomposed characters.
fn lower_nfc(name: &str) -> Result<String, HostError> {
    if name.contains(KELVIN_SIGN) {
        return Err(HostError::Character(KELVIN_SIGN));
    }
    let lower: String = name.chars().flat_map(char::to_lowercase).collect();
    Ok(ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned())
}

/// Whether IDNA keeps the character unchanged. If IDNA dropped it (soft hyphen, zero-width space) or replaced it
/// (fullwidth letters, ideographic full stop), the registered name would differ from the typed one.
fn is_allowed(c: char) -> bool {
    match c {
        'a'..='z' | '0'..='9' | '-' | '.' => true,
        _ if c.is_ascii() || INVISIBLE.contains(&c) => false,
        _ => idna::is_stable(c),
    }
}

/// Refuses labels that IDNA2008 does not allow, however the name was typed (RFC 5891 §4.2).
fn check_labels(ascii: &str) -> Result<(), HostError> {
    let (unicode, read) = ::idna::domain_to_unicode(ascii);
    read.map_err(|_| HostError::Idna)?;
    for label in unicode.split('.').filter(|label| !label.is_ascii()) {
        if let Some(c) = idna::disallowed(label) {
            return Err(HostError::Character(c));
        }
        // Such as `xn--`, which marks an A-label.
        if label.chars().skip(2).take(2).eq(['-', '-']) {
            return Err(HostError::Hyphen);
        }
    }
    Ok(())
}

/// Refuses names that are not public, or that many owners share.
fn check_public(name: &str, local: LocalHosts) -> Result<(), HostError> {
    if name == "localhost" {
        return match local {
            LocalHosts::Allowed => Ok(()),
            LocalHosts::Refused => Err(HostError::Local),
        };
    }
    let top = name.rsplit('.').next().unwrap_or(name);
    if SPECIAL_USE.contains(&top) {
        return Err(HostError::SpecialUse);
    }
    if psl::domain_str(name).is_some() {
        return Ok(());
    }
    let known = psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known());
    if known {
        return Err(HostError::PublicSuffix);
    }
    Err(HostError::SingleLabel)
}
