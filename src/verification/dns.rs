//! DNS queries: the TXT records of one name and the addresses of another, in parallel. There is no cache, so that new
//! records are found at once.

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

use super::Outcome;

/// At least one answer, or the reason for none.
type Answer<T> = Result<Vec<T>, Outcome>;

/// Returns the TXT records of `record`, each with its strings joined, and the addresses of `host`. Each query takes at
/// most `query_timeout`.
pub(super) fn look_up(
    server: Option<SocketAddr>,
    record: &str,
    host: &str,
    query_timeout: Duration,
) -> (Answer<Vec<u8>>, Answer<IpAddr>) {
    let queries = async {
        let resolver = match resolver(server, query_timeout) {
            Ok(resolver) => resolver,
            Err(error) => {
                log::error!("cannot set up the DNS resolver: {error}");
                return (Err(Outcome::NoAnswer), Err(Outcome::NoAnswer));
            }
        };
        let query =
            async |name: &str, kind: RecordType| match timeout(query_timeout, lookup(&resolver, name, kind)).await {
                Ok(answer) => answer,
                Err(_elapsed) => Err(Outcome::Timeout),
            };
        let (records, v4, v6) =
            join3(query(record, RecordType::TXT), query(host, RecordType::A), query(host, RecordType::AAAA)).await;
        (texts(records), addresses(v4, v6))
    };
    // A separate runtime ends all tasks that the resolver has left running.
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(queries),
        Err(error) => {
            log::error!("cannot start a runtime for DNS: {error}");
            (Err(Outcome::NoAnswer), Err(Outcome::NoAnswer))
        }
    }
}

fn resolver(server: Option<SocketAddr>, query_timeout: Duration) -> Result<TokioResolver, NetError> {
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
    options.timeout = query_timeout / 2;
    options.attempts = 2;
    // The hosts file of this machine proves nothing about the public host.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// The answers of one type, perhaps none.
async fn lookup(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<RData>, Outcome> {
    let Ok(mut name) = Name::from_ascii(name) else {
        // With its prefix, the name is too long for DNS.
        return Ok(Vec::new());
    };
    // Without this, the resolver would append search domains.
    name.set_fqdn(true);
    match resolver.lookup(name, kind).await {
        Ok(lookup) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(NetError::Timeout) => Err(Outcome::Timeout),
        Err(error) => {
            log::debug!("DNS: {error}");
            Err(Outcome::NoAnswer)
        }
    }
}

fn texts(answers: Result<Vec<RData>, Outcome>) -> Answer<Vec<u8>> {
    let text = |data: RData| match data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    };
    let texts: Vec<Vec<u8>> = answers?.into_iter().filter_map(text).collect();
    if texts.is_empty() { Err(Outcome::NoRecord) } else { Ok(texts) }
}

fn addresses(v4: Result<Vec<RData>, Outcome>, v6: Result<Vec<RData>, Outcome>) -> Answer<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let known: Vec<IpAddr> = [&v4, &v6].into_iter().flatten().flatten().filter_map(address).collect();
    if known.is_empty() { v4.and(v6).and(Err(Outcome::NoAddress)) } else { Ok(known) }
}
