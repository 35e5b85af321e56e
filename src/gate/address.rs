//! The network address of a client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use ipnet::IpNet;

use super::app;
use crate::app::{Actor, Caller, Who};
use crate::config::Config;
use crate::error::Result;
use crate::shares::{Holder, Network};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Limits the warning to one, because a proxy writes every entry in the same form.
static WARNED: Once = Once::new();

/// The address of the client: the peer's address or, behind trusted proxies, the right-most untrusted hop. `None` if
/// the peer has no IP address, as on a Unix socket.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub Option<IpAddr>);

impl Address {
    pub(crate) fn of(req: &HttpRequest, config: &Config) -> Address {
        Address(client_address(req, config))
    }

    /// The network for budgets and shares.
    pub(crate) fn network(self) -> Network {
        Network::of(self.0)
    }

    /// The holder of shares for callers without a known account.
    pub(crate) fn holder(self) -> Holder {
        Holder::network(self.network())
    }

    /// A caller whose account is not known.
    pub(crate) fn caller(self) -> Caller {
        Caller { actor: Actor { who: Who::Anyone, address: self.0 }, holder: self.holder(), token: None }
    }
}

fn address_of(req: &HttpRequest) -> Result<Address> {
    Ok(Address::of(req, &app(req)?.config))
}

extract!(Address, address_of);

/// Parses an entry of `X-Forwarded-For`. Some proxies add a port, brackets or quotes.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    let address = match entry.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry).parse().ok()?,
    };
    Some(address.to_canonical())
}

fn client_address(req: &HttpRequest, config: &Config) -> Option<IpAddr> {
    let trusted = |address: &IpAddr| config.trusted_proxies.iter().any(|network: &IpNet| network.contains(address));
    // On a dual-stack socket, an IPv4 peer has an IPv4-mapped IPv6 address.
    let peer = req.peer_addr()?.ip().to_canonical();
    if !trusted(&peer) {
        return Some(peer);
    }
    let hops = req.headers().get_all(&FORWARDED_FOR);
    let hops: Vec<&[u8]> = hops.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    let mut client = peer;
    for hop in hops.iter().rev() {
        // Entries to the left of an invalid one are not trustworthy.
        let Some(address) = str::from_utf8(hop).ok().and_then(parse_entry) else {
            WARNED.call_once(|| {
                log::warn!(
                    "an entry of X-Forwarded-For from {peer} (TRUSTED_PROXIES) is not an address: such requests count as \
                     requests of the last valid address, {client}"
                );
            });
            break;
        };
        client = address;
        if !trusted(&address) {
            break;
        }
    }
    Some(client)
}
