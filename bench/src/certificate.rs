//! A throw-away certificate for `localhost`, which all servers under test show.

use std::io;
use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

/// Writes `cert.pem` and `key.pem` into a folder: ECDSA on P-256, signed by itself.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(io::Error::other)?;
    std::fs::write(folder.join("cert.pem"), certificate.pem())?;
    std::fs::write(folder.join("key.pem"), key.serialize_pem())
}
