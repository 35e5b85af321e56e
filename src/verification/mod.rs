//! Checks whether a user controls a host, by a TXT record in DNS or a file on the host. All outgoing connections to
//! hosts that users name are made here. The code blocks, and does not depend on requests or the database.
//!
//! Protection against server-side request forgery: a name is resolved once, all its addresses must pass
//! [`address::is_public`], and the connection goes to such an address, not to the name. Redirects are not followed.
//! Time and size are bounded. The only result is one variant of [`Outcome`].

pub mod address;
mod dns;
mod http;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use rustls::RootCertStore;

use self::tls::Tls;
use crate::config::Config;
use crate::host::{Host, LocalHosts};
use crate::locale::Message;

/// Longest duration of a verification.
const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest duration of its DNS queries.
const DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// How many of a host's addresses are tried.
const MAX_ADDRESSES: usize = 4;
/// The path of the challenge file.
const PATH: &str = "/.well-known/gatebird-challenge";

/// A challenge: the value that a user must publish on a host.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The host.
    pub host: Host,
    /// 128 random bits in hexadecimal. The database binds them to the user and the host.
    pub token: String,
}

impl Challenge {
    /// A new random token.
    pub fn random_token() -> String {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        HEXLOWER.encode(&random)
    }

    /// The value of the TXT record, and the content of the file.
    pub fn value(&self) -> String {
        format!("gatebird-challenge={}", self.token)
    }

    /// The name of the TXT record.
    pub fn record_name(&self) -> String {
        format!("_gatebird.{}", self.host.name())
    }

    /// The URLs of the file, in the order in which they are tried.
    pub fn urls(&self) -> [String; 2] {
        ["https", "http"].map(|scheme| format!("{scheme}://{}{PATH}", self.host))
    }
}

/// A method of verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A TXT record.
    Dns,
    /// A file.
    File,
}

impl Method {
    /// The name of the method, in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Dns => "dns",
            Method::File => "file",
        }
    }
}

/// One check of a verification: a DNS query or a request for the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The method.
    pub method: Method,
    /// The name of the record, or the URL of the file.
    pub at: String,
    /// The outcome.
    pub outcome: Outcome,
}

/// The method that verified the host, if any.
pub fn verified_by(checks: &[Check]) -> Option<Method> {
    checks.iter().find(|check| check.outcome == Outcome::Match).map(|check| check.method)
}

/// The outcome of a check. Nothing else about the host's answer is revealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The challenge's value was found.
    Match,
    /// The name has no TXT record.
    NoRecord,
    /// The record or the file has another value.
    OtherValue,
    /// The name has no address.
    NoAddress,
    /// The name has an address that is not public.
    PrivateAddress,
    /// The DNS servers failed.
    NoAnswer,
    /// The host's port is below 1024, and not 80 or 443.
    Port,
    /// The connection failed or was lost.
    Unreachable,
    /// The TLS handshake failed, or the certificate is not valid for the host.
    Tls,
    /// The answer is not HTTP.
    NotHttp,
    /// The answer is a redirect, which is not followed.
    Redirect,
    /// The status is not 200.
    Status,
    /// The answer has more than 64 KiB, or more than 64 headers.
    TooLarge,
    /// The check took too long.
    Timeout,
    /// Too many verifications have connected to the network of an address within a minute.
    Limited,
}

impl Outcome {
    /// The stable name for programs, and the sentence for people.
    pub fn name_and_message(self) -> (&'static str, Message) {
        match self {
            Outcome::Match => ("match", Message::FoundMatch),
            Outcome::NoRecord => ("noRecord", Message::FoundNoRecord),
            Outcome::OtherValue => ("otherValue", Message::FoundOtherValue),
            Outcome::NoAddress => ("noAddress", Message::FoundNoAddress),
            Outcome::PrivateAddress => ("privateAddress", Message::FoundPrivateAddress),
            Outcome::NoAnswer => ("noAnswer", Message::FoundNoAnswer),
            Outcome::Port => ("port", Message::FoundPort),
            Outcome::Unreachable => ("unreachable", Message::FoundUnreachable),
            Outcome::Tls => ("tls", Message::FoundTls),
            Outcome::NotHttp => ("notHttp", Message::FoundNotHttp),
            Outcome::Redirect => ("redirect", Message::FoundRedirect),
            Outcome::Status => ("status", Message::FoundStatus),
            Outcome::TooLarge => ("tooLarge", Message::FoundTooLarge),
            Outcome::Timeout => ("timeout", Message::FoundTimeout),
            Outcome::Limited => ("limited", Message::FoundLimited),
        }
    }
}

/// Connects to an address within a timeout.
pub type Dial = Box<dyn Fn(SocketAddr, Duration) -> io::Result<TcpStream> + Send + Sync>;

/// Verifies hosts.
pub struct Verifier {
    dns_server: Option<SocketAddr>,
    local: LocalHosts,
    dial: Dial,
    tls: Tls,
}

impl Verifier {
    /// A verifier that trusts the root certificates of this machine.
    pub fn new(config: &Config) -> Verifier {
        let dial = Box::new(|address, timeout| TcpStream::connect_timeout(&address, timeout));
        Verifier { dns_server: config.dns_server, local: config.local_hosts, dial, tls: Tls::default() }
    }

    /// Replaces the connector and the root certificates, for tests without a network.
    pub fn through(self, dial: Dial, roots: RootCertStore) -> Verifier {
        Verifier { dial, tls: Tls::trusting(roots), ..self }
    }

    /// Checks DNS first, which needs no connection to the host, then the file by https and by http, until one check
    /// matches. This takes at most 5 seconds.
    ///
    /// A file by http is sufficient: an attacker who can forge http can forge unsigned DNS too, and a host may not have
    /// a certificate yet.
    ///
    /// `may_connect` is called once with the addresses to try, so that the caller can limit connections per network.
    pub fn verify(&self, challenge: &Challenge, may_connect: &dyn Fn(&[IpAddr]) -> bool) -> Vec<Check> {
        let deadline = Instant::now() + VERIFICATION_TIMEOUT;
        let name = challenge.record_name();
        let (records, addresses) = dns::look_up(self.dns_server, &name, challenge.host.name(), DNS_TIMEOUT);
        let value = challenge.value();
        let compare = |values: Vec<Vec<u8>>| {
            let is_match = values.iter().any(|found| found == value.as_bytes());
            if is_match { Outcome::Match } else { Outcome::OtherValue }
        };
        let mut checks =
            vec![Check { method: Method::Dns, at: name, outcome: records.map_or_else(|why| why, compare) }];
        let addresses = addresses.and_then(|addresses| self.checked(addresses, may_connect));
        for (url, default_port) in challenge.urls().into_iter().zip([443, 80]) {
            if verified_by(&checks).is_some() {
                break;
            }
            // https gets half of the remaining time, so that a port that does not answer leaves time for http.
            let until = match default_port {
                443 => Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2,
                _ => deadline,
            };
            let port = challenge.host.port().unwrap_or(default_port);
            let found = addresses.as_deref().map_err(|why| *why).and_then(|addresses| {
                check_port(port)?;
                let content = self.fetch(&challenge.host, addresses, port, default_port == 443, until)?;
                Ok(compare(vec![content.trim_ascii_end().to_vec()]))
            });
            checks.push(Check { method: Method::File, at: url, outcome: found.unwrap_or_else(|why| why) });
        }
        checks
    }

    /// The addresses to try, if all of them may be connected to.
    fn checked(
        &self,
        mut addresses: Vec<IpAddr>,
        may_connect: &dyn Fn(&[IpAddr]) -> bool,
    ) -> Result<Vec<IpAddr>, Outcome> {
        let is_allowed = |address: &IpAddr| {
            address::is_public(*address) || (self.local == LocalHosts::Allowed && address.is_loopback())
        };
        if !addresses.iter().all(is_allowed) {
            return Err(Outcome::PrivateAddress);
        }
        addresses.truncate(MAX_ADDRESSES);
        if may_connect(&addresses) { Ok(addresses) } else { Err(Outcome::Limited) }
    }

    /// Fetches the file from the first address that accepts a connection.
    fn fetch(
        &self,
        host: &Host,
        addresses: &[IpAddr],
        port: u16,
        tls: bool,
        until: Instant,
    ) -> Result<Vec<u8>, Outcome> {
        let mut why = Outcome::Unreachable;
        for address in addresses {
            let remaining = until.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(Outcome::Timeout);
            }
            // An address that drops packets leaves time for the next one.
            let timeout = if addresses.len() > 1 { remaining / 2 } else { remaining };
            match (self.dial)(SocketAddr::new(*address, port), timeout) {
                Ok(stream) => {
                    let stream = http::Timed::new(stream, until);
                    return if tls {
                        http::get(self.tls.over(stream, host.name())?, host, PATH)
                    } else {
                        http::get(stream, host, PATH)
                    };
                }
                Err(error) => why = http::why(&error),
            }
        }
        Err(why)
    }
}

/// Refuses ports below 1024 other than 80 and 443, since other services listen there.
fn check_port(port: u16) -> Result<(), Outcome> {
    match port {
        80 | 443 | 1024.. => Ok(()),
        _ => Err(Outcome::Port),
    }
}
