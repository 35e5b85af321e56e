//! Third-party hosts: which may be registered, their canonical spelling, and the browser origins that belong to them.
//! This is text processing only, without DNS, HTTP or storage.

use std::fmt;
use std::net::Ipv6Addr;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::locale::Message;

mod idna;

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

impl Host {
    /// Parses `name[:port]` as a person types it: in any case, in Unicode or as A-labels.
    pub fn parse(input: &str, local: LocalHosts) -> Result<Host, Message> {
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
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let is_scheme = scheme == "https" || scheme == "http" && self.name() == "localhost";
        is_scheme && authority == without_default_port(&self.0)
    }

    /// All hosts, registered or not, that match `origin` by [`Host::matches_origin`].
    pub fn of_origin(origin: &str) -> impl Iterator<Item = Host> {
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let spellings = [authority.to_owned(), format!("{authority}:443"), format!("{authority}:80")];
        spellings.into_iter().map(Host).filter(move |host| host.matches_origin(origin))
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

/// Refuses input that is not `name[:port]`, with a more helpful text than [`Message::HostCharacter`].
fn refuse_other_notations(input: &str) -> Result<(), Message> {
    if input.is_empty() {
        return Err(Message::HostEmpty);
    }
    if input.len() > MAX_INPUT {
        return Err(Message::HostTooLong);
    }
    if input.contains(['/', '\\', '@', '?', '#']) {
        return Err(Message::HostOnly);
    }
    if input.contains('*') {
        return Err(Message::HostWildcard);
    }
    let without_zone = input.split('%').next().unwrap_or(input);
    if input.starts_with('[') || without_zone.parse::<Ipv6Addr>().is_ok() {
        return Err(Message::HostIp);
    }
    Ok(())
}

fn parse_port(port: &str) -> Result<u16, Message> {
    // `u16::from_str` accepts `+80`, and leading zeros would give a port several spellings.
    let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| plain).ok_or(Message::HostPort)
}

/// The canonical spelling of a name: lower-case A-labels.
fn canonical_name(name: &str) -> Result<String, Message> {
    let typed = lower_nfc(name);
    if name.contains(KELVIN_SIGN) || !typed.chars().all(is_allowed) {
        return Err(Message::HostCharacter);
    }
    if typed.split('.').any(str::is_empty) {
        return Err(Message::HostDots);
    }
    let hyphenated = |label: &str| label.starts_with('-') || label.ends_with('-');
    if typed.split('.').any(hyphenated) {
        return Err(Message::HostHyphen);
    }
    // A URL parser detects names that are IPv4 addresses in other notations, such as 0x7f.1 and 2130706433.
    let ascii = match url::Host::parse(&typed) {
        Ok(url::Host::Domain(ascii)) => ascii,
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(url::ParseError::InvalidIpv4Address) => {
            return Err(Message::HostIp);
        }
        Err(_) => return Err(Message::HostIdna),
    };
    if ascii.len() > MAX_NAME || ascii.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(Message::HostTooLong);
    }
    check_labels(&ascii)?;
    Ok(ascii)
}

/// Removes the two accepted differences in spelling: case, and composed or decomposed characters.
fn lower_nfc(name: &str) -> String {
    let lower: String = name.chars().flat_map(char::to_lowercase).collect();
    ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned()
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
fn check_labels(ascii: &str) -> Result<(), Message> {
    let (unicode, read) = ::idna::domain_to_unicode(ascii);
    read.map_err(|_| Message::HostIdna)?;
    for label in unicode.split('.').filter(|label| !label.is_ascii()) {
        if !idna::is_allowed(label) {
            return Err(Message::HostCharacter);
        }
        // Such as `xn--`, which marks an A-label.
        if label.chars().skip(2).take(2).eq(['-', '-']) {
            return Err(Message::HostHyphen);
        }
    }
    Ok(())
}

/// Refuses names that are not public, or that many owners share.
fn check_public(name: &str, local: LocalHosts) -> Result<(), Message> {
    if name == "localhost" {
        return match local {
            LocalHosts::Allowed => Ok(()),
            LocalHosts::Refused => Err(Message::HostLocal),
        };
    }
    let top = name.rsplit('.').next().unwrap_or(name);
    if SPECIAL_USE.contains(&top) {
        return Err(Message::HostSpecial);
    }
    if psl::domain_str(name).is_some() {
        return Ok(());
    }
    let known = psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known());
    if known {
        return Err(Message::HostPublicSuffix);
    }
    Err(Message::HostSingleLabel)
}
