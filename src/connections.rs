//! Client connections. A `Connection` takes at most 256 KiB of memory and has deadlines, whatever the client sends.
//! [`Connections`] limits their number per network.

mod deadline;
mod framing;
mod stream;
mod turns;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use ipnet::IpNet;
use parking_lot::Mutex;
use socket2::SockRef;

pub(crate) use self::framing::Refusal;
pub(crate) use self::stream::{Connection, Exchange};
use self::turns::Turn;
use crate::config::{Config, Timeouts};
use crate::metrics::Metrics;
use crate::shares::{Holder, Network, Share};

/// File descriptors that are reserved for the database and other files.
const RESERVED_FILES: u64 = 200;
/// How long the kernel waits for a client that acknowledges nothing, or whose receive window stays closed.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest interval between two warnings about refused connections.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Admits connections. One network may have `LIMIT_CONNECTIONS`, and never more than remain free.
#[derive(Debug)]
pub struct Connections {
    share: Share,
    trusted_proxies: Vec<IpNet>,
    timeouts: Timeouts,
    warned_at: Mutex<Option<Instant>>,
}

impl Connections {
    /// Starts without connections.
    pub fn new(config: &Config) -> Connections {
        let capacity = capacity_of_worker(config.workers) * config.workers;
        let limit = config.connections_per_network.unwrap_or(capacity);
        Connections {
            share: Share::limited(capacity, limit),
            trusted_proxies: config.trusted_proxies.clone(),
            timeouts: config.timeouts,
            warned_at: Mutex::default(),
        }
    }

    /// Admits an accepted connection; `None` if its network has too many.
    pub(crate) fn admit(&self, stream: TcpStream, peer: Option<IpAddr>, metrics: &Metrics) -> Option<Connection> {
        let peer = peer.map(|peer| peer.to_canonical());
        let is_proxy = peer.is_some_and(|peer| self.trusted_proxies.iter().any(|network| network.contains(&peer)));
        // A trusted proxy is not limited, since it connects on behalf of all its clients.
        let share = if is_proxy {
            None
        } else {
            let network = Network::of(peer);
            let Some(permit) = self.share.try_take(Holder::network(network)) else {
                metrics.connections_refused.inc();
                self.warn(peer);
                return None;
            };
            Some((permit, Turn::new(network)))
        };
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT)) {
            log::debug!("cannot set the TCP user timeout of a connection: {error}");
        }
        Some(Connection::new(stream, self.timeouts, share))
    }

    /// Logs a refused connection, at most once per [`WARNING_INTERVAL`].
    fn warn(&self, peer: Option<IpAddr>) {
        let now = Instant::now();
        let mut warned_at = self.warned_at.lock();
        if warned_at.is_none_or(|warned_at| now - warned_at >= WARNING_INTERVAL) {
            *warned_at = Some(now);
            let peer = peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
            log::warn!("refused a connection from {peer}: its network has too many (LIMIT_CONNECTIONS)");
        }
    }
}

/// How many connections a worker accepts. Further ones wait in the kernel.
pub(crate) fn capacity_of_worker(workers: usize) -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
    let connections = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX) / workers;
    connections.clamp(16, 10_000)
}
