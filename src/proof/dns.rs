//! Asking DNS: the TXT records of one name and the addresses of another, at the same time, without a cache, so that what was
//! published a moment ago is seen.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join3;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::runtime;
use tokio::time::timeout;

use super::Found;

/// What was found, at least one; or why not.
type Answer<T> = Result<Vec<T>, Found>;

/// The TXT records of `record`, each with its strings put together, and the addresses of `host`; each within that time.
pub(super) fn look_up(
    server: Option<SocketAddr>,
    record: &str,
    host: &str,
    patience: Duration,
) -> (Answer<Vec<u8>>, Answer<IpAddr>) {
    let asking = async {
        let resolver = match resolver(server, patience) {
            Ok(resolver) => resolver,
            Err(error) => {
                log::error!("the DNS resolver cannot be set up: {error}");
                return (Err(Found::NoAnswer), Err(Found::NoAnswer));
            }
        };
        let ask = async |name: &str, kind: RecordType| match timeout(patience, lookup(&resolver, name, kind)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Found::Timeout),
        };
        let (records, v4, v6) =
            join3(ask(record, RecordType::TXT), ask(host, RecordType::A), ask(host, RecordType::AAAA)).await;
        (texts(records), addresses(v4, v6))
    };
    // Of its own: what a look-up leaves running ends with it.
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(asking),
        Err(error) => {
            log::error!("no runtime for DNS: {error}");
            (Err(Found::NoAnswer), Err(Found::NoAnswer))
        }
    }
}

fn resolver(server: Option<SocketAddr>, patience: Duration) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match server {
        None => Resolver::builder(provider)?,
        Some(server) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            let server = NameServerConfig::new(server.ip(), true, connections);
            Resolver::builder_with_config(ResolverConfig::from_name_servers(vec![server]), provider)
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = patience / 2;
    options.attempts = 2;
    // What this machine alone believes proves nothing.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// The answers of that type; none is `Ok` too.
async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<RData>, Found> {
    let Ok(mut name) = Name::from_ascii(name) else {
        // Too long with the label in front.
        return Ok(Vec::new());
    };
    // No search list.
    name.set_fqdn(true);
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(NetError::Timeout) => Err(Found::Timeout),
        Err(error) => {
            log::debug!("DNS: {error}");
            Err(Found::NoAnswer)
        }
    }
}

fn texts(answers: Result<Vec<RData>, Found>) -> Answer<Vec<u8>> {
    let text = |data: RData| match data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    };
    let texts: Vec<Vec<u8>> = answers?.into_iter().filter_map(text).collect();
    if texts.is_empty() { Err(Found::NoRecord) } else { Ok(texts) }
}

fn addresses(v4: Result<Vec<RData>, Found>, v6: Result<Vec<RData>, Found>) -> Answer<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let known: Vec<IpAddr> = [&v4, &v6].into_iter().flatten().flatten().filter_map(address).collect();
    match known.is_empty() {
        false => Ok(known),
        true => v4.and(v6).and(Err(Found::NoAddress)),
    }
}
