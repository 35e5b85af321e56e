//! TLS to a host that is to be proven: with its name, and only with a certificate that this machine trusts.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Found;
use super::http::{Timed, why};

/// The settings of TLS; the machine's roots of trust are read when they are first needed.
#[derive(Default)]
pub(super) struct Tls(OnceLock<Arc<ClientConfig>>);

impl Tls {
    /// With those roots instead.
    pub(super) fn trusting(roots: RootCertStore) -> Tls {
        Tls(OnceLock::from(config(roots)))
    }

    /// Shakes hands.
    pub(super) fn over(&self, mut stream: Timed, name: &str) -> Result<StreamOwned<ClientConnection, Timed>, Found> {
        let config = self.0.get_or_init(|| config(machine_roots()));
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Found::Tls)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(|_| Found::Tls)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| match why(&error) {
                Found::Timeout => Found::Timeout,
                // What does not speak TLS says so in many ways, or hangs up.
                _ => Found::Tls,
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
        log::warn!("this machine has no trusted certificates: hosts cannot be proven over https ({:?})", found.errors);
    }
    roots
}
