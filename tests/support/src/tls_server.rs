//! TLS for scripted servers.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::scripted::Stream;
use crate::tls;

/// Sets up TLS with this certificate, as the server.
pub(crate) async fn accept(
    stream: Box<dyn Stream>,
    certificate: &str,
) -> io::Result<TlsStream<Box<dyn Stream>>> {
    let file = tls::certificate_of(certificate);
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&file).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(file.with_extension("key")).map_err(io::Error::other)?;
    let config = config(chain, key).map_err(io::Error::other)?;
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
}
