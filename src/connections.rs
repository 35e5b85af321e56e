//! The connections of clients. [`Connection`] sees to it that each of them costs at most 256 KiB and ends in time, whatever
//! is sent on it. [`Connections`] sees to it that no network has too many of them.

mod deadline;
mod framing;
mod stream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use ipnet::IpNet;
use socket2::SockRef;

pub(crate) use self::framing::Refusal;
pub(crate) use self::stream::{Connection, Exchange};
use crate::budget::Network;
use crate::config::{Config, Timeouts};
use crate::metrics::Metrics;

/// File descriptors that are left for the database and the like.
const RESERVED_FILES: u64 = 200;
/// How long the kernel waits for a client that acknowledges nothing, or whose receive window stays closed.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the log tells that connections were refused.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Admits connections: of one network at most `LIMIT_CONNECTIONS`, and only while it has fewer than remain free.
#[derive(Debug)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
    trusted_proxies: Vec<IpNet>,
    timeouts: Timeouts,
    warned_at: Mutex<Option<Instant>>,
}

impl Connections {
    /// With nobody connected.
    pub fn new(config: &Config) -> Connections {
        let capacity = capacity_of_worker(config.workers) * config.workers;
        let limit = config.connections_per_network.unwrap_or(capacity);
        Connections {
            open: Arc::new(Mutex::new(Open { free: capacity, limit, of_networks: HashMap::new() })),
            trusted_proxies: config.trusted_proxies.clone(),
            timeouts: config.timeouts,
            warned_at: Mutex::default(),
        }
    }

    /// Admits a connection that was accepted, unless its network has too many.
    pub(crate) fn admit(&self, stream: TcpStream, peer: Option<IpAddr>, metrics: &Metrics) -> Option<Connection> {
        let peer = peer.map(|peer| peer.to_canonical());
        let is_proxy = peer.is_some_and(|peer| self.trusted_proxies.iter().any(|network| network.contains(&peer)));
        // A proxy has the connections of all its clients.
        let permit = match is_proxy {
            true => None,
            false => match Permit::try_take(&self.open, Network::of(peer)) {
                Some(permit) => Some(permit),
                None => {
                    metrics.connections_refused.inc();
                    self.warn(peer);
                    return None;
                }
            },
        };
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT)) {
            log::debug!("a connection without a time limit: {error}");
        }
        Some(Connection::new(stream, self.timeouts, permit))
    }

    /// Tells of a refused connection, once in a while.
    fn warn(&self, peer: Option<IpAddr>) {
        let now = Instant::now();
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        if warned_at.is_none_or(|warned_at| now - warned_at >= WARNING_INTERVAL) {
            *warned_at = Some(now);
            let peer = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
            log::warn!("refused a connection from {peer}: its network has too many (LIMIT_CONNECTIONS)");
        }
    }
}

/// How many connections a worker takes. Beyond that, connections wait to be accepted.
pub(crate) fn capacity_of_worker(workers: usize) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let connections = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX) / workers;
    connections.clamp(16, 10_000)
}

/// How many connections there are.
#[derive(Debug)]
struct Open {
    free: usize,
    limit: usize,
    of_networks: HashMap<Network, usize>,
}

/// The right of a network to a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    open: Arc<Mutex<Open>>,
    network: Network,
}

impl Permit {
    /// Takes one while the network has fewer than its limit, and fewer than remain free.
    fn try_take(open: &Arc<Mutex<Open>>, network: Network) -> Option<Permit> {
        let mut state = lock(open);
        let most = state.limit.min(state.free);
        let held = state.of_networks.get(&network).copied().unwrap_or_default();
        if held >= most {
            return None;
        }
        state.free -= 1;
        state.of_networks.insert(network, held + 1);
        Some(Permit { open: Arc::clone(open), network })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.open);
        state.free += 1;
        match state.of_networks.get_mut(&self.network) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(state.of_networks.remove(&self.network)),
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
