//! HMAC-SHA256 by ring, in the shape in which jsonwebtoken asks for it. Its own feature for that,
//! `rust_crypto`, brings RSA and three elliptic curves that nothing here uses.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::hmac;

/// Knows HS256 and refuses all else.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(), // for JWKs, which are not used
};

/// Makes jsonwebtoken use this. It keeps its provider for the whole process, so whoever comes second
/// finds it set.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

struct Hs256(hmac::Key);

impl Hs256 {
    fn new(algorithm: Algorithm, family: AlgorithmFamily, secret: &[u8]) -> Result<Self> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        if family != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that `CryptoProvider` asks for"
)]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    let hs256 = Hs256::new(*algorithm, key.family(), key.as_bytes())?;
    Ok(Box::new(hs256))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that `CryptoProvider` asks for"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let hs256 = Hs256::new(*algorithm, key.family(), key.try_get_as_bytes()?)?;
    Ok(Box::new(hs256))
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    /// In constant time.
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        install();
        // RFC 7515, appendix A.1
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let message = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let key = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(secret).unwrap());
        let signed =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert_eq!(signed, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    #[test]
    fn other_algorithms_and_keys_of_other_kinds_are_refused() {
        install();
        let key = EncodingKey::from_secret(&[1; 32]);
        for algorithm in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256] {
            assert!(jsonwebtoken::crypto::sign(b"x", &key, algorithm).is_err());
        }
        let rsa = EncodingKey::from_rsa_der(&[1; 32]);
        assert!(jsonwebtoken::crypto::sign(b"x", &rsa, Algorithm::HS256).is_err());
    }
}
