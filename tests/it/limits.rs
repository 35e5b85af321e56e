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

fn exchange(gate: &Gate, domain: &Domain) -> Request {
    gate.post("/token").json(&json!({"clientSecret": domain.secret}))
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
