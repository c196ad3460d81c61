//! SHA-256 of a random secret: what the store keeps in its place. Secrets with 256 random bits need
//! neither salt nor stretching; passwords do and have `password`.

use std::fmt;

use aivonx_shared::fleet_doc::KeyDigest;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// SHA-256 of a secret's text. Compared in constant time.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a text.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Reads 64 hexadecimal digits, as the store keeps them.
    pub fn from_hex(text: &str) -> Option<Self> {
        KeyDigest::from_hex(text).map(|digest| Self(digest.0))
    }

    /// 64 lower-case hexadecimal digits, for the store.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits
            .map(|digit| char::from(DIGITS[usize::from(digit)]))
            .collect()
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    /// Enough to tell two apart, too little to look for the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}…", self.0[0], self.0[1])
    }
}

impl From<Digest> for KeyDigest {
    fn from(digest: Digest) -> Self {
        Self(digest.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_back_and_is_what_others_compute() {
        let digest = Digest::of("abc");
        // FIPS 180-4, example of one block
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.hex(), hex);
        assert_eq!(Digest::from_hex(hex), Some(digest));
        assert_ne!(Digest::of("abd"), digest);
        assert_eq!(Digest::from_hex("ba78"), None);
    }

    #[test]
    fn a_digest_is_not_printed_whole() {
        assert_eq!(format!("{:?}", Digest::of("abc")), "ba78…");
    }
}
