//! Secrets at rest: AES-256-GCM under a key that both planes hold. A sealed text stands in the
//! database, in the fleet document, on the bus and on a data plane's disk; it is opened where it is
//! used. Its form is `v1.` and then, in base64url without padding, nonce, ciphertext and tag.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::fleet_doc::Secret;

/// Bytes of a key.
const KEY: usize = 32;
/// What a sealed text begins with. It is also authenticated, so that no other use of the same key can
/// be passed off as one of ours.
const VERSION: &str = "v1.";

/// The variable that holds the key; with `_FILE` the one that names its file.
pub const KEY_VARIABLE: &str = "AIVONX_SECRET_KEY";
/// The variable that names the key's file.
pub const KEY_FILE_VARIABLE: &str = "AIVONX_SECRET_KEY_FILE";

/// The key. It is never printed.
#[derive(Clone)]
pub struct SealKey(Arc<LessSafeKey>);

/// Why there is no key. Says nothing of what was given.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no key.
    #[error("a key is 32 bytes, in base64 or as 64 hexadecimal digits (openssl rand -base64 32)")]
    Malformed,
    /// Both variables are set.
    #[error("{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set; keep one of them")]
    Twice,
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The file holds no key.
    #[error(
        "{0}: a key is 32 bytes, in base64 or as 64 hexadecimal digits (openssl rand -base64 32)"
    )]
    MalformedFile(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// Why a sealed text was not opened. Says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It does not have the form of a sealed text.
    #[error("is no sealed value (`v1.…`)")]
    Malformed,
    /// It was sealed under another key, or changed since.
    #[error("was sealed under another key, or is damaged")]
    Refused,
}

impl SealKey {
    /// A key of these bytes.
    pub fn from_bytes(bytes: &[u8; KEY]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// Reads a key: 32 bytes in base64 of either alphabet, or as 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = from_hex(text).or_else(|| from_base64(text));
        let bytes: [u8; KEY] = bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(KeyError::Malformed)?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The key that the environment gives, in a variable or in the file that another one names; `None`
    /// where neither is set.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, KeyError> {
        let given = |name| variable(name).filter(|text| !text.trim().is_empty());
        match (given(KEY_VARIABLE), given(KEY_FILE_VARIABLE)) {
            (None, None) => Ok(None),
            (Some(text), None) => Self::parse(&text).map(Some),
            (None, Some(path)) => Self::from_file(Path::new(&path)).map(Some),
            (Some(_), Some(_)) => Err(KeyError::Twice),
        }
    }

    /// The key in a file.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|error| failed(path, error))?;
        Self::parse(&text).map_err(|_| KeyError::MalformedFile(path.to_owned()))
    }

    /// The key in a file, which is made where it is missing: readable for its owner alone. Of two
    /// processes that make it at once both get the same one.
    pub fn from_file_or_new(path: &Path) -> Result<Self, KeyError> {
        match Self::from_file(path) {
            Err(KeyError::File { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => return done,
        }
        let mut bytes = [0; KEY];
        fill(&mut bytes)?;
        let mut name = [0; 8];
        fill(&mut name)?;
        let fresh = path.with_extension(URL_SAFE_NO_PAD.encode(name));
        let made = write_new(&fresh, &format!("{}\n", STANDARD.encode(bytes)))
            // a link is there whole or not at all, and never takes another's place
            .and_then(|()| fs::hard_link(&fresh, path));
        let _ = fs::remove_file(&fresh);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(failed(path, error))
            }
            _ => Self::from_file(path),
        }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(***)")
    }
}

/// Seals a text.
pub fn seal(key: &SealKey, text: &str) -> Result<String, KeyError> {
    let mut nonce = [0; NONCE_LEN];
    fill(&mut nonce)?;
    let mut sealed = nonce.to_vec();
    let mut rest = text.as_bytes().to_vec();
    key.0
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(VERSION),
            &mut rest,
        )
        .expect("no secret is longer than 64 GiB");
    sealed.append(&mut rest);
    Ok(format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(sealed)))
}

/// Opens a sealed text.
pub fn open(key: &SealKey, sealed: &str) -> Result<Secret, OpenError> {
    let bytes = sealed
        .strip_prefix(VERSION)
        .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok())
        .filter(|bytes| bytes.len() >= NONCE_LEN + AES_256_GCM.tag_len())
        .ok_or(OpenError::Malformed)?;
    let (nonce, rest) = bytes.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;
    let mut rest = rest.to_vec();
    let text = key
        .0
        .open_in_place(nonce, Aad::from(VERSION), &mut rest)
        .map_err(|_| OpenError::Refused)?;
    let text = std::str::from_utf8(text).map_err(|_| OpenError::Refused)?;
    Ok(Secret::new(text))
}

/// Whether a text has the form of a sealed one.
pub fn is_sealed(text: &str) -> bool {
    text.strip_prefix(VERSION)
        .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok())
        .is_some_and(|bytes| bytes.len() >= NONCE_LEN + AES_256_GCM.tag_len())
}

fn fill(bytes: &mut [u8]) -> Result<(), KeyError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| KeyError::NoRandom)
}

fn failed(path: &Path, error: std::io::Error) -> KeyError {
    KeyError::File {
        path: path.to_owned(),
        error,
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * KEY || !text.is_ascii() {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8))
        .collect()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(text).ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::from_bytes(&[byte; KEY])
    }

    #[test]
    fn what_is_sealed_is_opened_again_and_no_two_look_alike() {
        for text in ["", "s3cret", "a line\nand ünïcode"] {
            let (one, two) = (seal(&key(1), text).unwrap(), seal(&key(1), text).unwrap());
            assert_eq!(open(&key(1), &one).unwrap().reveal(), text);
            assert_ne!(one, two);
            assert!(one.starts_with("v1.") && is_sealed(&one));
            assert!(text.is_empty() || !one.contains(text));
        }
    }

    #[test]
    fn the_form_does_not_change() {
        let sealed = "v1.AAAAAAAAAAAAAAAAzFD7rhBP03gebZgRvkup-IjzXwCtag";
        let mut bytes = vec![0; NONCE_LEN];
        let mut rest = b"secret".to_vec();
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        key(1)
            .0
            .seal_in_place_append_tag(nonce, Aad::from("v1."), &mut rest)
            .unwrap();
        bytes.append(&mut rest);
        assert_eq!(format!("v1.{}", URL_SAFE_NO_PAD.encode(bytes)), sealed);
        assert_eq!(open(&key(1), sealed).unwrap().reveal(), "secret");
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let sealed = seal(&key(1), "s3cret").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&sealed[3..]).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let text = format!("v1.{}", URL_SAFE_NO_PAD.encode(changed));
            assert_eq!(
                open(&key(1), &text).unwrap_err(),
                OpenError::Refused,
                "{at}"
            );
        }
        for bad in [
            "",
            "s3cret",
            "v1.",
            "v1.AAAA",
            "v2.AAAA",
            &sealed[..30],
            "v1.***",
        ] {
            assert_eq!(
                open(&key(1), bad).unwrap_err(),
                OpenError::Malformed,
                "{bad}"
            );
            assert!(!is_sealed(bad));
        }
    }

    #[test]
    fn another_key_opens_nothing_and_the_error_gives_nothing_away() {
        let sealed = seal(&key(1), "s3cret").unwrap();
        let error = open(&key(2), &sealed).unwrap_err();
        assert_eq!(
            error.to_string(),
            "was sealed under another key, or is damaged"
        );
        assert!(!format!("{error:?} {:?}", key(1)).contains(&sealed));
        assert_eq!(format!("{:?}", key(1)), "SealKey(***)");
    }

    #[test]
    fn a_key_is_read_from_hex_and_from_base64() {
        let sealed = seal(&key(0xAB), "x").unwrap();
        let bytes = [0xAB; KEY];
        let texts = [
            "aB".repeat(KEY),
            STANDARD.encode(bytes),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            format!(" {}\n", URL_SAFE_NO_PAD.encode(bytes)),
        ];
        for text in texts {
            let key = SealKey::parse(&text).unwrap();
            assert_eq!(open(&key, &sealed).unwrap().reveal(), "x");
        }
        for bad in [
            "",
            "secret",
            &"ab".repeat(16),
            &STANDARD.encode([1; 33]),
            &"zz".repeat(KEY),
        ] {
            let error = SealKey::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("a key is 32 bytes"), "{error}");
        }
    }

    #[test]
    fn the_environment_gives_a_key_or_a_file_but_not_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "ab".repeat(KEY)).unwrap();
        let (file, text) = (path.to_str().unwrap().to_owned(), "ab".repeat(KEY));
        let get = |pairs: Vec<(&'static str, String)>| {
            SealKey::from_environment(move |name| {
                let pair = pairs.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| value.clone())
            })
        };
        assert!(get(vec![]).unwrap().is_none());
        assert!(get(vec![(KEY_VARIABLE, text.clone())]).unwrap().is_some());
        assert!(
            get(vec![(KEY_FILE_VARIABLE, file.clone())])
                .unwrap()
                .is_some()
        );
        let both = get(vec![
            (KEY_VARIABLE, text.clone()),
            (KEY_FILE_VARIABLE, file),
        ]);
        let error = both.unwrap_err().to_string();
        assert!(
            error.contains("keep one") && !error.contains(&text),
            "{error}"
        );
        fs::write(&path, "nothing like it").unwrap();
        let error = SealKey::from_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("key: a key is") && !error.contains("nothing"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let made: Vec<_> = std::thread::scope(|scope| {
            let make = || scope.spawn(|| SealKey::from_file_or_new(&path).unwrap());
            let all: Vec<_> = (0..8).map(|_| make()).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let sealed = seal(&made[0], "x").unwrap();
        assert!(made.iter().all(|key| open(key, &sealed).is_ok()));
        let permissions = fs::metadata(&path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
