//! The attacks. `A…` were found on a running product; `B…` were designed for this battery.

mod accounts;
mod connections;
mod requests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::attack::{Attack, Bound};

/// The attacker's address. Attackers with several addresses use the following ones.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Every attack, in order.
pub(crate) const ALL: &[Attack] = &[
    Attack::new("control", "no attack", |_| Ok(Vec::new())),
    Attack::new("A1-300", "300 connections send 256 KiB of pipelined requests and read nothing", |stage| {
        connections::unread(stage, 300)
    }),
    Attack::new("A1-1000", "1,000 such connections", |stage| connections::unread(stage, 1_000)),
    Attack::new("A1-5000", "5,000 such connections", |stage| connections::unread(stage, 5_000)),
    Attack::new("A2-1", "one connection stops reading after 312 KiB of requests", |stage| {
        connections::full_buffer(stage, "/openapi.json", 1)
    }),
    Attack::new("A2-1000", "1,000 such connections, with answers that the kernel buffers at first", |stage| {
        connections::full_buffer(stage, "/.well-known/oauth-authorization-server", 1_000)
    }),
    Attack::new("A3", "5,000 connections never finish their second head", connections::unfinished_heads),
    Attack::new("A4", "one address keeps as many connections as it can", connections::all_connections),
    Attack::new("A5", "an account with many posts is deleted, again and again", accounts::delete_large_account),
    Attack {
        lead: Duration::from_secs(90),
        ..Attack::new("A6", "32 accounts revoke with fresh assertions", accounts::fresh_assertions)
    },
    Attack::new("A7-names", "one address signs in with unknown names", accounts::unknown_names),
    Attack::new("A7-weak", "an account changes its password to a weak one", accounts::weak_passwords),
    Attack::new("A8", "a domain revokes its tokens over 160 connections", accounts::revocations),
    Attack::new("A9", "eight accounts prove hosts whose DNS does not answer", accounts::silent_hosts),
    Attack::new("A10", "forged assertions of a domain with four keys of RSA-4096", requests::forged_assertions),
    Attack {
        settings: &[("ACCESS_LOG", "all")],
        ..Attack::new("A11", "26-byte requests, all of which are logged", requests::smallest)
    },
    Attack::new("A12", "sign-ups and registrations as fast as allowed", accounts::sign_ups),
    Attack {
        bounds: &[Bound { counted: "tokens", at_once: 60.0, per_minute: 60.0 }],
        ..Attack::new("A13", "a domain is deleted and registered again for more tokens", accounts::new_meters)
    },
    Attack {
        bounds: &[Bound { counted: "good requests without an answer", at_once: 0.0, per_minute: 0.0 }],
        ..Attack::new("A14", "a header name of 70,000 bytes behind good requests", requests::huge_header_name)
    },
    Attack {
        // A check opens two connections: https and http.
        bounds: &[Bound { counted: "connections to the victim", at_once: 20.0, per_minute: 20.0 }],
        ..Attack::new(
            "A15",
            "an account requests checks of hosts at one victim's address",
            accounts::host_checks_of_victim,
        )
    },
    Attack::new("B1", "2,000 bodies arrive a byte at a time", connections::slow_bodies),
    Attack::new("B2", "2,000 first heads arrive a line at a time", connections::slow_heads),
    Attack::new("B3", "2,000 halves of a TLS hello", connections::tls_hellos),
    Attack::new("B4", "connections are opened and closed as fast as possible", connections::churn),
    Attack::new("B5", "unknown paths of 8 KB", requests::unknown_paths),
    Attack::new("B6", "pre-flights and HEAD requests of odd origins", requests::odd_origins),
    Attack::new("B7", "deeply nested JSON and JSON of many members", requests::costly_json),
    Attack::new("B8", "bodies in chunks of one byte", requests::small_chunks),
    Attack::new("B9", "well-formed client secrets of no client", requests::unknown_secrets),
    Attack::new("B10", "introspection of forged and foreign tokens", requests::foreign_tokens),
    Attack::new("B11", "an account lists long pages, and by wrong cursors", accounts::long_lists),
    Attack::new("B12", "an account rotates a secret, over 32 connections", accounts::rotations),
    Attack::new("B13", "an account deletes unknown resources, over 64 connections", accounts::deletions),
    Attack::new("B14", "wrong passwords for the bystander's name", accounts::wrong_passwords),
];
