//! Verification of a domain's host: over HTTP against the server, and the outgoing connections to hosts that users
//! name.

mod checks;
pub mod dns;
pub mod endpoint;
pub mod host;
mod outbound;
mod recheck;
mod takeover;
mod verified_host;

use self::dns::Dns;
use crate::harness::{Domain, Gate, Reply, User, Value};

/// A server that uses that DNS server.
fn server_with_dns(dns: &Dns, settings: &[(&str, &str)]) -> Gate {
    let address = dns.address.to_string();
    let settings: Vec<_> = settings.iter().copied().chain([("DNS_SERVER", address.as_str())]).collect();
    Gate::with(&settings)
}

fn path(domain: &Domain) -> String {
    format!("/v1/domains/{}/verification", domain.id)
}

/// Requests the verification.
fn verify(gate: &Gate, owner: &User, domain: &Domain) -> Reply {
    gate.post(&path(domain)).token(&owner.token).send()
}

/// The verification as its owner sees it.
fn shown(gate: &Gate, owner: &User, domain: &Domain) -> Value {
    gate.get(&path(domain)).token(&owner.token).send().expect(200)["payload"].clone()
}

/// The value that the owner must publish.
fn value(gate: &Gate, owner: &User, domain: &Domain) -> String {
    shown(gate, owner, domain)["dns"]["value"].as_str().expect("a challenge").to_owned()
}

/// The `found` of each check, in order.
fn found(body: &Value) -> Vec<&str> {
    let tried = body["payload"]["tried"].as_array().unwrap_or_else(|| panic!("what was tried: {body}"));
    tried.iter().map(|check| check["found"].as_str().expect("a word")).collect()
}
