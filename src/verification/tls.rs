//! TLS to a host that is checked. Its certificate must be for the host's name, and this machine must trust it.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Outcome;
use super::http::{Timed, why};

/// The TLS configuration. The machine's root certificates are read at first use.
#[derive(Default)]
pub(super) struct Tls(OnceLock<Arc<ClientConfig>>);

impl Tls {
    /// Trusts these roots instead of the machine's.
    pub(super) fn trusting(roots: RootCertStore) -> Tls {
        Tls(OnceLock::from(config(roots)))
    }

    /// Does the handshake.
    pub(super) fn over(&self, mut stream: Timed, name: &str) -> Result<StreamOwned<ClientConnection, Timed>, Outcome> {
        let config = self.0.get_or_init(|| config(machine_roots()));
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Outcome::Tls)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(|_| Outcome::Tls)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| match why(&error) {
                Outcome::Timeout => Outcome::Timeout,
                // A server without TLS fails the handshake in many ways, or closes the connection.
                _ => Outcome::Tls,
            })?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

fn config(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has suites for both versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn machine_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        log::warn!(
            "this machine has no trusted root certificates: hosts cannot be verified over https ({:?})",
            found.errors
        );
    }
    roots
}
