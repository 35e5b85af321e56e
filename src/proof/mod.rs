//! Looking whether a user controls a host: for a TXT record in DNS, or for a file on the host itself. Everything that goes out
//! to hosts that strangers name goes out here. Blocking; knows neither requests nor the database.
//!
//! Why a host cannot make this server look elsewhere: its name is resolved once, every address is judged by
//! [`address::is_public`], and the connection goes to an address that was judged, not to the name. No redirect is followed,
//! time and size are bounded, and nothing of what was received leaves this module but one word of [`Found`].

pub mod address;
mod dns;
mod http;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::RootCertStore;

use self::tls::Tls;
use crate::config::Config;
use crate::host::{Host, LocalHosts};
use crate::locale::Message;

/// How long everything together may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of that DNS may take.
const PATIENCE_FOR_DNS: Duration = Duration::from_secs(2);
/// How many of a host's addresses are tried.
const MAX_ADDRESSES: usize = 4;
/// The path of the file.
const PATH: &str = "/.well-known/gatebird-challenge";

/// What a user has to publish on a host, by either method.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The host.
    pub host: Host,
    /// What is to be found: 128 random bits, bound to the user and the host by whoever keeps it.
    pub token: String,
}

impl Challenge {
    /// A new token.
    pub fn random_token() -> String {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source answers");
        format!("{:032x}", u128::from_be_bytes(random))
    }

    /// The value of the record, and the content of the file.
    pub fn value(&self) -> String {
        format!("gatebird-challenge={}", self.token)
    }

    /// The name of the TXT record.
    pub fn record_name(&self) -> String {
        format!("_gatebird.{}", self.host.name())
    }

    /// Where the file may be, in the order of looking.
    pub fn urls(&self) -> [String; 2] {
        ["https", "http"].map(|scheme| format!("{scheme}://{}{PATH}", self.host))
    }
}

/// A way to prove control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The TXT record.
    Dns,
    /// The file.
    File,
}

impl Method {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Dns => "dns",
            Method::File => "file",
        }
    }
}

/// One look, and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// By which method.
    pub method: Method,
    /// The name of the record, or the URL of the file.
    pub at: String,
    /// What was found there.
    pub found: Found,
}

/// The method that proved it, if one did.
pub fn proven_by(looks: &[Look]) -> Option<Method> {
    looks.iter().find(|look| look.found == Found::Match).map(|look| look.method)
}

/// What was found, and all that is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Exactly what was looked for.
    Match,
    /// No TXT record of that name.
    NoRecord,
    /// Another value only.
    OtherValue,
    /// The name has no address.
    NoAddress,
    /// The name has an address that is not public.
    PrivateAddress,
    /// The DNS servers failed.
    NoAnswer,
    /// A port below 1024 on which no web server is.
    Port,
    /// No connection, or one that broke.
    Unreachable,
    /// No TLS, or a certificate that is not good.
    Tls,
    /// Not HTTP.
    NotHttp,
    /// A redirect, which is not followed.
    Redirect,
    /// Another status than 200.
    Status,
    /// More than 64 KiB, or more than 64 headers.
    TooLarge,
    /// It took too long.
    Timeout,
    /// Too many verifications have connected to its address within a minute.
    Limited,
}

impl Found {
    /// The stable word for programs, and the sentence for people.
    pub fn told(self) -> (&'static str, Message) {
        match self {
            Found::Match => ("match", Message::FoundMatch),
            Found::NoRecord => ("noRecord", Message::FoundNoRecord),
            Found::OtherValue => ("otherValue", Message::FoundOtherValue),
            Found::NoAddress => ("noAddress", Message::FoundNoAddress),
            Found::PrivateAddress => ("privateAddress", Message::FoundPrivateAddress),
            Found::NoAnswer => ("noAnswer", Message::FoundNoAnswer),
            Found::Port => ("port", Message::FoundPort),
            Found::Unreachable => ("unreachable", Message::FoundUnreachable),
            Found::Tls => ("tls", Message::FoundTls),
            Found::NotHttp => ("notHttp", Message::FoundNotHttp),
            Found::Redirect => ("redirect", Message::FoundRedirect),
            Found::Status => ("status", Message::FoundStatus),
            Found::TooLarge => ("tooLarge", Message::FoundTooLarge),
            Found::Timeout => ("timeout", Message::FoundTimeout),
            Found::Limited => ("limited", Message::FoundLimited),
        }
    }
}

/// Opens a connection to exactly that address within that time.
pub type Dial = Box<dyn Fn(SocketAddr, Duration) -> io::Result<TcpStream> + Send + Sync>;

/// What looks.
pub struct Prober {
    dns_server: Option<SocketAddr>,
    local: LocalHosts,
    dial: Dial,
    tls: Tls,
}

impl Prober {
    /// As the settings say; it trusts the certificates that this machine trusts.
    pub fn new(config: &Config) -> Prober {
        let dial = Box::new(|address, patience| TcpStream::connect_timeout(&address, patience));
        Prober { dns_server: config.dns_server, local: config.local_hosts, dial, tls: Tls::default() }
    }

    /// With another way out and other roots of trust, for tests: they reach nobody.
    pub fn through(self, dial: Dial, roots: RootCertStore) -> Prober {
        Prober { dial, tls: Tls::trusting(roots), ..self }
    }

    /// Looks in DNS first, which needs no connection to the host, then for the file, by https before http, until it is
    /// found. Takes 5 seconds at most.
    ///
    /// Why http counts: whoever can forge it can as well forge unsigned DNS, and a host may well be proven before it has
    /// its certificate.
    ///
    /// `may_connect` is asked once about each address that the host has, so that a limit per address can be kept.
    pub fn look(&self, challenge: &Challenge, may_connect: &dyn Fn(IpAddr) -> bool) -> Vec<Look> {
        let deadline = Instant::now() + PATIENCE;
        let name = challenge.record_name();
        let (records, addresses) = dns::look_up(self.dns_server, &name, challenge.host.name(), PATIENCE_FOR_DNS);
        let value = challenge.value();
        let is_match = |records: Vec<Vec<u8>>| match records.iter().any(|record| record == value.as_bytes()) {
            true => Found::Match,
            false => Found::OtherValue,
        };
        let mut looks = vec![Look { method: Method::Dns, at: name, found: records.map_or_else(|why| why, is_match) }];
        let addresses = addresses.and_then(|addresses| self.checked(addresses, may_connect));
        for (url, default_port) in challenge.urls().into_iter().zip([443, 80]) {
            if proven_by(&looks).is_some() {
                break;
            }
            // Half of what is left, so that an https port that does not answer leaves time for http.
            let until = match default_port {
                443 => Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2,
                _ => deadline,
            };
            let port = challenge.host.port().unwrap_or(default_port);
            let found = addresses.as_deref().map_err(|why| *why).and_then(|addresses| {
                check_port(port)?;
                let content = self.fetch(&challenge.host, addresses, port, default_port == 443, until)?;
                Ok(is_match(vec![content.trim_ascii_end().to_vec()]))
            });
            looks.push(Look { method: Method::File, at: url, found: found.unwrap_or_else(|why| why) });
        }
        looks
    }

    /// The addresses to connect to, if each of all of them may be connected to.
    fn checked(&self, mut addresses: Vec<IpAddr>, may_connect: &dyn Fn(IpAddr) -> bool) -> Result<Vec<IpAddr>, Found> {
        let is_allowed = |address: &IpAddr| {
            address::is_public(*address) || (self.local == LocalHosts::Allowed && address.is_loopback())
        };
        if !addresses.iter().all(is_allowed) {
            return Err(Found::PrivateAddress);
        }
        addresses.truncate(MAX_ADDRESSES);
        match addresses.iter().all(|address| may_connect(*address)) {
            true => Ok(addresses),
            false => Err(Found::Limited),
        }
    }

    /// The file from the first of the addresses that answers.
    fn fetch(&self, host: &Host, addresses: &[IpAddr], port: u16, tls: bool, until: Instant) -> Result<Vec<u8>, Found> {
        let mut why = Found::Unreachable;
        for address in addresses {
            let patience = until.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Err(Found::Timeout);
            }
            // One address that drops packets leaves time for the next.
            let share = if addresses.len() > 1 { patience / 2 } else { patience };
            match (self.dial)(SocketAddr::new(*address, port), share) {
                Ok(stream) => {
                    let stream = http::Timed::new(stream, until);
                    return match tls {
                        true => http::get(self.tls.over(stream, host.name())?, host, PATH),
                        false => http::get(stream, host, PATH),
                    };
                }
                Err(error) => why = http::why(&error),
            }
        }
        Err(why)
    }
}

/// Below 1024 there are web servers on two ports only; on others there is what should not be spoken to.
fn check_port(port: u16) -> Result<(), Found> {
    match port {
        80 | 443 | 1024.. => Ok(()),
        _ => Err(Found::Port),
    }
}
