//! Counters, gauges and histograms in the Prometheus text format. Labels have fixed sets of values (route patterns,
//! methods, statuses, reasons), and never values that a client sent.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::reason::Reason;

/// Upper bounds of the histograms' buckets, in seconds. Requests without SQL fall into the first two.
const BUCKETS: [f64; 11] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refusal {
    reason: &'static str,
}

/// The metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram, fn() -> Histogram>,
    refusals: Family<Refusal, Counter>,
    /// Access tokens issued.
    pub tokens_issued: Counter,
    /// Access tokens issued while the domain had one with more than half of its lifetime left.
    pub tokens_redundant: Counter,
    /// Failed sign-ins that are missing from the audit log because the buffer was full.
    pub dropped_failures: Counter,
    /// Access log lines that were not written because their network had exhausted `LIMIT_LOG`.
    pub left_out_log_lines: Counter,
    /// Log lines that were dropped because the output was blocked.
    pub dropped_log_lines: Gauge,
    /// Seconds by which the wall clock is ahead of the trusted time.
    pub clock_offset: Gauge,
    /// Seconds since the directory was last known to be up to date.
    pub directory_age: Gauge<f64, std::sync::atomic::AtomicU64>,
    /// Accounts in the directory.
    pub users: Gauge,
    /// `MAX_USERS`.
    pub max_users: Gauge,
    /// `MAX_DOMAINS`.
    pub max_domains: Gauge,
    /// Domains in the directory.
    pub domains: Gauge,
    /// Revoked tokens that have not expired yet.
    pub revoked_tokens: Gauge,
    /// Seconds for which each write transaction held its connection, which with SQLite blocks all other writers. The
    /// time includes the commit and its application to the directory.
    pub write_time: Histogram,
    /// Connections that were closed when accepted because their network had too many.
    pub connections_refused: Counter,
    /// Requests that were refused because their head was malformed.
    pub malformed_heads: Counter,
    /// Database connections in use.
    pub connections_used: Gauge,
    /// Database connections open.
    pub connections_open: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("gatebird"),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            refusals: Family::default(),
            tokens_issued: Counter::default(),
            tokens_redundant: Counter::default(),
            dropped_failures: Counter::default(),
            left_out_log_lines: Counter::default(),
            dropped_log_lines: Gauge::default(),
            clock_offset: Gauge::default(),
            directory_age: Gauge::default(),
            users: Gauge::default(),
            max_users: Gauge::default(),
            max_domains: Gauge::default(),
            domains: Gauge::default(),
            revoked_tokens: Gauge::default(),
            write_time: Histogram::new(BUCKETS),
            connections_refused: Counter::default(),
            malformed_heads: Counter::default(),
            connections_used: Gauge::default(),
            connections_open: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit("latency", "Time to the answer's head", Unit::Seconds, metrics.latency.clone());
        registry.register("refusals", "Refused requests by reason", metrics.refusals.clone());
        registry.register("tokens_issued", "Access tokens issued", metrics.tokens_issued.clone());
        registry.register(
            "tokens_redundant",
            "Access tokens issued while the domain had one with more than half of its lifetime left",
            metrics.tokens_redundant.clone(),
        );
        registry.register(
            "dropped_signin_failures",
            "Failed sign-ins missing from the audit log because the buffer was full",
            metrics.dropped_failures.clone(),
        );
        registry.register(
            "dropped_log_lines",
            "Log lines dropped because the output was blocked",
            metrics.dropped_log_lines.clone(),
        );
        registry.register(
            "left_out_log_lines",
            "Access log lines left out because their network had exhausted LIMIT_LOG",
            metrics.left_out_log_lines.clone(),
        );
        registry.register_with_unit(
            "directory_age",
            "Time since the directory was last known to be up to date",
            Unit::Seconds,
            metrics.directory_age.clone(),
        );
        registry.register_with_unit(
            "clock_offset",
            "This node's clock minus the trusted time; beyond 30, data is deleted by the trusted time only",
            Unit::Seconds,
            metrics.clock_offset.clone(),
        );
        registry.register("users", "Accounts in the directory", metrics.users.clone());
        registry.register("max_users", "Accounts that MAX_USERS allows", metrics.max_users.clone());
        registry.register("max_domains", "Domains that MAX_DOMAINS allows", metrics.max_domains.clone());
        registry.register("domains", "Domains in the directory", metrics.domains.clone());
        registry.register("revoked_tokens", "Revoked tokens that have not expired", metrics.revoked_tokens.clone());
        registry.register_with_unit(
            "db_write",
            "Time for which a write transaction holds its connection",
            Unit::Seconds,
            metrics.write_time.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed when accepted because their network had too many",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "malformed_heads",
            "Requests refused because their head was malformed",
            metrics.malformed_heads.clone(),
        );
        registry.register("database_connections_used", "Database connections in use", metrics.connections_used.clone());
        registry.register("database_connections_open", "Database connections open", metrics.connections_open.clone());
        metrics
    }
}

impl Metrics {
    /// Counts one answered request.
    pub fn answered(&self, route: &'static str, method: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&Request { route, method, status }).inc();
        self.latency.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    /// Counts one refusal.
    pub fn refused(&self, reason: Reason) {
        self.refusals.get_or_create(&Refusal { reason: reason.as_str() }).inc();
    }

    /// All metrics in the Prometheus text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String never fails");
        text
    }
}
