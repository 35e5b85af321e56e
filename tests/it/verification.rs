//! Proof of control of a domain's host: over HTTP against the gate, and what goes out to hosts that strangers name.

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

/// A gate that asks that DNS server.
fn gate_asking(dns: &Dns, settings: &[(&str, &str)]) -> Gate {
    let address = dns.address.to_string();
    let settings: Vec<_> = settings.iter().copied().chain([("DNS_SERVER", address.as_str())]).collect();
    Gate::with(&settings)
}

fn path(domain: &Domain) -> String {
    format!("/v1/domains/{}/verification", domain.id)
}

/// Tries to prove it.
fn verify(gate: &Gate, owner: &User, domain: &Domain) -> Reply {
    gate.post(&path(domain)).token(&owner.token).send()
}

/// What the owner is shown.
fn shown(gate: &Gate, owner: &User, domain: &Domain) -> Value {
    gate.get(&path(domain)).token(&owner.token).send().expect(200)["payload"].clone()
}

/// What the owner has to publish.
fn value(gate: &Gate, owner: &User, domain: &Domain) -> String {
    shown(gate, owner, domain)["dns"]["value"].as_str().expect("a challenge").to_owned()
}

/// The `found` of each look, in order.
fn found(body: &Value) -> Vec<&str> {
    let tried = body["payload"]["tried"].as_array().unwrap_or_else(|| panic!("what was tried: {body}"));
    tried.iter().map(|check| check["found"].as_str().expect("a word")).collect()
}
