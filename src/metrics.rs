//! Counters, gauges and histograms in the Prometheus text format. Labels have fixed sets of values (route patterns,
//! methods, statuses, reasons), and never values that a client sent.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

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

/// Declares the metrics: the name, the type, the unit and the description.
macro_rules! metrics {
    ($($name:ident: $type:ty, $unit:expr, $help:literal;)*) => {
        /// The metrics of this process.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            requests: Family<Request, Counter>,
            latency: Family<Route, Histogram, fn() -> Histogram>,
            refusals: Family<Refusal, Counter>,
            /// Time for which a write transaction holds its connection. With SQLite, this blocks all other writers.
            pub write_time: Histogram,
            $(#[doc = $help] pub $name: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Metrics {
                let mut registry = Registry::with_prefix("gatebird");
                let requests = add(&mut registry, "requests", None, "Requests answered", Family::default());
                let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
                let latency = Family::new_with_constructor(histogram);
                let latency = add(&mut registry, "latency", SECONDS, "Time to the answer's head", latency);
                let refusals = add(&mut registry, "refusals", None, "Refused requests by reason", Family::default());
                let write_time = "Time for which a write transaction holds its connection";
                let write_time = add(&mut registry, "db_write", SECONDS, write_time, Histogram::new(BUCKETS));
                $(let $name = add(&mut registry, stringify!($name), $unit, $help, <$type>::default());)*
                Metrics { registry, requests, latency, refusals, write_time, $($name,)* }
            }
        }
    };
}

const SECONDS: Option<Unit> = Some(Unit::Seconds);

metrics! {
    tokens_issued: Counter, None, "Access tokens issued";
    tokens_redundant: Counter, None, "Access tokens issued while the domain had one with more than half of its lifetime left";
    dropped_signin_failures: Counter, None, "Failed sign-ins missing from the audit log because the buffer was full";
    dropped_log_lines: Gauge, None, "Log lines dropped because the output was blocked";
    left_out_log_lines: Counter, None, "Access log lines left out because their network had exhausted LIMIT_LOG";
    directory_age: Gauge<f64, AtomicU64>, SECONDS, "Time since the directory was last known to be up to date";
    clock_offset: Gauge, SECONDS, "This node's clock minus the trusted time; beyond 30, data is deleted by the trusted time only";
    users: Gauge, None, "Accounts in the directory";
    max_users: Gauge, None, "Accounts that MAX_USERS allows";
    max_domains: Gauge, None, "Domains that MAX_DOMAINS allows";
    domains: Gauge, None, "Domains in the directory";
    revoked_tokens: Gauge, None, "Revoked tokens that have not expired";
    connections_refused: Counter, None, "Connections closed when accepted because their network had too many";
    malformed_heads: Counter, None, "Requests refused because their head was malformed";
    database_connections_used: Gauge, None, "Database connections in use";
    database_connections_open: Gauge, None, "Database connections open";
}

/// Registers a metric, and returns it.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, unit: Option<Unit>, help: &str, metric: M) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
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
