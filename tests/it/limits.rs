//! Limits over HTTP: what a domain, a network and an account may request, and what answers say about it.

mod changes;
mod fixed_budgets;
mod headers;
mod networks;
mod passwords;
mod plans;
mod reregistration;
mod totals;

use crate::harness::{Domain, Gate, Reply, Request, json};

/// The loopback address is a trusted proxy, so that requests can come from any address.
const BEHIND_A_PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");

/// A request that comes from that address through the proxy.
fn from(request: Request, address: &str) -> Request {
    request.header("X-Forwarded-For", address)
}

fn exchange(gate: &Gate, domain: &Domain) -> Request {
    gate.post("/token").json(&json!({"clientSecret": domain.secret}))
}

/// Sends the same request this many times concurrently.
pub fn at_once(times: usize, send: impl Fn() -> Reply + Sync) -> Vec<Reply> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..times).map(|_| scope.spawn(&send)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

/// The number of replies with that status. Every other one must be 429 with that reason and a `Retry-After`.
#[track_caller]
fn passed(replies: &[Reply], status: u16, reason: &str) -> usize {
    for reply in replies.iter().filter(|reply| reply.status != status) {
        assert_eq!(reply.refused(429, reason)["error"], "rate_limited");
        assert!(retry_after(reply) >= 1, "{reply:?}");
    }
    replies.iter().filter(|reply| reply.status == status).count()
}

fn retry_after(reply: &Reply) -> i64 {
    let wait = reply.header("retry-after").expect("Retry-After");
    wait.parse().unwrap_or_else(|_| panic!("{wait}"))
}
