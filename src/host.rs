//! Third-party hosts: what may be registered, its one canonical spelling, and the browser origin
//! it stands for. Pure text: knows nothing of DNS, HTTP or storage, nor of who owns a host.

use std::fmt;
use std::net::Ipv6Addr;

use icu_normalizer::ComposingNormalizerBorrowed;

mod idna;
#[cfg(test)]
mod tests;

/// Bytes of input looked at; the longest name DNS allows stays below it, even in decomposed Hangul.
const MAX_INPUT: usize = 4096;
/// Octets of a name in DNS (RFC 1035 §2.3.4), without the root's dot.
const MAX_NAME: usize = 253;
/// Octets of one label in DNS (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Characters that IDNA takes and that show nothing: the joiners and the blank Braille pattern. A
/// name that truly has a joiner (Persian, say) can be given as `xn--`, where it hides nothing.
const INVISIBLE: [char; 3] = ['\u{200C}', '\u{200D}', '\u{2800}'];

/// The only character outside ASCII that lower-cases to an ASCII letter.
const KELVIN_SIGN: char = '\u{212A}';

/// Top-level names that never lead to a host on the public Internet: RFC 3172, 6761, 6762 (with
/// appendix G), 7686 and 9476, and `localdomain` by custom. `test` and `example` are left out:
/// people need names to try things with.
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
/// The port is part of the identity, but for one that says nothing: `shop.example:443` is `shop.example`,
/// whose origin it has, and `shop.example:8443` another host. Else whoever lost a host (suspended, or
/// proven by somebody else) could have it again by writing the port. 80 says nothing of `localhost`
/// alone, the one host that stands for http origins as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host(String);

/// Whether `localhost`, with or without a port, is a host here (`ALLOW_LOCAL_HOSTS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalHosts {
    /// `localhost` may be registered.
    Allowed,
    /// `localhost` is refused like any other name that is not public.
    Refused,
}

/// Why an input is not a host; `Display` is for the person who typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was given.
    #[error("a host is required")]
    Empty,
    /// The whole name is longer than DNS allows.
    #[error("a host name has at most {MAX_NAME} characters")]
    TooLong,
    /// One label is longer than DNS allows.
    #[error("each part of a host name has at most {MAX_LABEL} characters")]
    Label,
    /// A scheme, user, path, query or fragment stands beside the host.
    #[error("give the host only: no scheme, user, path or query")]
    Scheme,
    /// A `*`.
    #[error("wildcards are not allowed: register each host by its full name")]
    Wildcard,
    /// An IP address in any notation, or a name that URL parsers read as one.
    #[error("an IP address is not allowed: give a host name")]
    IpLiteral,
    /// Not 1 to 65535 in plain decimal, or a second colon.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// A leading, trailing or doubled dot.
    #[error("a host name has no leading, trailing or double dot")]
    EmptyLabel,
    /// White space, control and invisible characters, underscore, symbols and punctuation, or one that IDNA would replace.
    #[error("the character U+{:04X} is not allowed in a host name", u32::from(*.0))]
    Character(char),
    /// A label begins or ends with a hyphen.
    #[error("no part of a host name may begin or end with a hyphen")]
    Hyphen,
    /// Not a valid internationalised name (UTS #46, RFC 5893): an `xn--` label that does not
    /// round-trip, a mark in front, mixed directions.
    #[error("this is not a valid internationalised host name")]
    Idna,
    /// `localhost` where it is not allowed.
    #[error("localhost is not allowed here")]
    Local,
    /// A name that is never public, such as `*.internal` or `*.local`.
    #[error("this name is reserved for private or special use")]
    SpecialUse,
    /// One label that is no known suffix, such as `intranet`.
    #[error("give the full host name, for example www.example.com")]
    SingleLabel,
    /// A name under which others register theirs, such as `co.uk` or `github.io`.
    #[error("this is a public suffix that many owners share: register a name below it")]
    PublicSuffix,
}

impl Host {
    /// Reads `name[:port]` as a person types it: in any case, in Unicode or as A-labels.
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

    /// Takes back what [`Host::parse`] once accepted. Unchecked: for our own database only.
    pub fn from_stored(stored: String) -> Host {
        Host(stored)
    }

    /// `name` or `name:port`, as stored.
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

    /// Whether `text` names this host, as the `Host` header of a request does: in any case, with the
    /// default port or without, A-labels only.
    pub fn is_named(&self, text: &str) -> bool {
        without_default_port(&self.0).eq_ignore_ascii_case(without_default_port(text))
    }

    /// Whether `origin`, the value of an `Origin` header, is this host's own origin over https, byte
    /// for byte as browsers write it (RFC 6454 §6.2): lower case, no trailing slash or dot, no
    /// default port.
    ///
    /// `shop.example` matches `https://shop.example` only, and so does a `shop.example:443` that was
    /// stored while default ports were kept. Plain http counts for `localhost` alone. `null` matches nothing.
    pub fn matches_origin(&self, origin: &str) -> bool {
        match origin.split_once("://") {
            Some(("https", authority)) => authority == self.without_default(443),
            Some(("http", authority)) => self.name() == "localhost" && authority == self.without_default(80),
            _ => false,
        }
    }

    /// Every host whose own origin `origin` is, registered or not: as [`Host::matches_origin`] says.
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

/// A `name[:port]` without the port that is the default of an origin which the bare name stands for: 443, and 80
/// where that is `localhost`.
fn without_default_port(host: &str) -> &str {
    match host.split_once(':') {
        Some((name, "443")) => name,
        Some((name, "80")) if name.eq_ignore_ascii_case("localhost") => name,
        _ => host,
    }
}

/// Refuses what is no `name[:port]` at all, so that the answer can say more than "bad character".
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
    // `u16::from_str` takes `+80`, and leading zeros would give one port many spellings.
    let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| plain).ok_or(HostError::Port)
}

/// The one spelling of a name: lower-case A-labels.
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
    // Names that URL parsers read as IPv4 (0x7f.1, 2130706433) are found by such a parser.
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

/// The two differences in spelling that we forgive: case, and composed or decomposed characters.
fn lower_nfc(name: &str) -> Result<String, HostError> {
    if name.contains(KELVIN_SIGN) {
        return Err(HostError::Character(KELVIN_SIGN));
    }
    let lower: String = name.chars().flat_map(char::to_lowercase).collect();
    Ok(ComposingNormalizerBorrowed::new_nfc().normalize(&lower).into_owned())
}

/// Whether IDNA takes the character as it is. One that it would drop (soft hyphen, zero-width
/// space) or replace (fullwidth letters, ideographic full stop) would make the name that gets
/// registered another than the one that was read.
fn is_allowed(c: char) -> bool {
    match c {
        'a'..='z' | '0'..='9' | '-' | '.' => true,
        _ if c.is_ascii() || INVISIBLE.contains(&c) => false,
        _ => idna::is_stable(c),
    }
}

/// Refuses A-labels that IDNA2008 does not have, however the name was typed (RFC 5891 §4.2).
fn check_labels(ascii: &str) -> Result<(), HostError> {
    let (unicode, read) = ::idna::domain_to_unicode(ascii);
    read.map_err(|_| HostError::Idna)?;
    for label in unicode.split('.').filter(|label| !label.is_ascii()) {
        if let Some(c) = idna::disallowed(label) {
            return Err(HostError::Character(c));
        }
        // Such as `xn--`, which would have a second meaning.
        if label.chars().skip(2).take(2).eq(['-', '-']) {
            return Err(HostError::Hyphen);
        }
    }
    Ok(())
}

/// Refuses names that are not one third party's host on the public Internet.
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
