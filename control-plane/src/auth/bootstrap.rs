//! The first start: which password the first user, `root`, gets. `app` asks once the database is
//! migrated, stores what it is told, and prints a generated password once.

use aivonx_shared::fleet_doc::Secret;

use crate::domain::{LONGEST_PASSWORD, Weak, is_well_known, judge_password};

/// The first user's name, as the predecessor's.
pub const ROOT: &str = "root";

/// Without `i`, `l`, `o` and `u`: nothing to misread (Crockford's base32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const GROUPS: usize = 4;
const GROUP_LEN: usize = 5;

/// What a start finds.
#[derive(Debug, Clone, Copy)]
pub struct FirstStart<'a> {
    /// Whether there is a user already.
    pub has_users: bool,
    /// `ROOT_PASSWORD`, if it is set.
    pub given: Option<&'a Secret>,
    /// Whether anybody beyond this machine can reach a listener that takes logins: the control
    /// plane's own, or the front door.
    pub is_beyond_loopback: bool,
}

/// What is to be done about `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPassword {
    /// There are users: nothing. `ROOT_PASSWORD` has no say any more.
    Keep,
    /// Make `root` with the password of the environment.
    Given(Secret),
    /// Make `root` with this one, and print it once.
    Generated(Secret),
}

/// Why it does not start: its text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No user may choose it, and others could try it.
    #[error(
        "ROOT_PASSWORD {0}, and the listener can be reached from other machines: choose another, or \
         leave it out and one is generated"
    )]
    Weak(#[from] Weak),
    /// No login could be made with it.
    #[error("ROOT_PASSWORD has more than {LONGEST_PASSWORD} bytes")]
    TooLong,
}

impl FirstStart<'_> {
    /// Decides; `random` makes the generated password. An empty `ROOT_PASSWORD` is none: so it
    /// arrives from a compose file without a value.
    pub fn root_password(&self, random: [u8; 16]) -> Result<RootPassword, BootstrapError> {
        if self.has_users {
            return Ok(RootPassword::Keep);
        }
        let Some(given) = self.given.filter(|given| !given.reveal().is_empty()) else {
            return Ok(RootPassword::Generated(generated(random)));
        };
        let text = given.reveal();
        if text.len() > LONGEST_PASSWORD {
            return Err(BootstrapError::TooLong);
        }
        if self.is_beyond_loopback {
            judge_password(text, ROOT)?;
        }
        Ok(RootPassword::Given(given.clone()))
    }
}

/// Whether a login is refused although its password is right: a well-known one that was chosen on
/// loopback opens nothing to others, also when the listener was moved later.
pub fn refuses_login(password: &Secret, client_is_loopback: bool) -> bool {
    !client_is_loopback && is_well_known(password.reveal())
}

/// 100 of the random bits, as `7k2fq-…`: easy to type, too many to guess.
fn generated(random: [u8; 16]) -> Secret {
    let mut bits = u128::from_be_bytes(random);
    let mut groups = Vec::with_capacity(GROUPS);
    for _ in 0..GROUPS {
        let mut group = String::with_capacity(GROUP_LEN);
        for _ in 0..GROUP_LEN {
            group.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
        groups.push(group);
    }
    Secret::new(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(
        given: Option<&str>,
        is_beyond_loopback: bool,
    ) -> Result<RootPassword, BootstrapError> {
        let given = given.map(Secret::new);
        let start = FirstStart {
            has_users: false,
            given: given.as_ref(),
            is_beyond_loopback,
        };
        start.root_password([0; 16])
    }

    #[test]
    fn without_a_word_a_password_is_generated() {
        for given in [None, Some("")] {
            for beyond in [false, true] {
                let root = decided(given, beyond).unwrap();
                let zeros = Secret::new("00000-00000-00000-00000");
                assert_eq!(root, RootPassword::Generated(zeros));
            }
        }
    }

    #[test]
    fn a_generated_password_has_a_hundred_random_bits() {
        let all = generated([255; 16]);
        assert_eq!(all.reveal(), "zzzzz-zzzzz-zzzzz-zzzzz");
        for bit in 0..100 {
            let text = generated((1_u128 << bit).to_be_bytes());
            let changed = text.reveal().bytes().filter(|it| !b"0-".contains(it));
            assert_eq!(changed.count(), 1, "{bit}");
        }
        assert!(!is_well_known(generated(*b"0123456789abcdef").reveal()));
    }

    #[test]
    fn a_given_password_is_taken() {
        let expected = RootPassword::Given(Secret::new("correct horse"));
        for beyond in [false, true] {
            assert_eq!(decided(Some("correct horse"), beyond).unwrap(), expected);
        }
    }

    #[test]
    fn what_anybody_would_try_is_taken_on_loopback_alone() {
        for text in ["changeme", "ChangeMe ", "password", "toor", "11111111"] {
            assert!(decided(Some(text), false).is_ok(), "{text}");
            let refused = decided(Some(text), true);
            assert_eq!(refused, Err(Weak::WellKnown.into()), "{text}");
        }
        assert_eq!(decided(Some("x7-k"), true), Err(Weak::TooShort.into()));
        assert!(decided(Some("x7-k"), false).is_ok());
        let long = "ab".repeat(LONGEST_PASSWORD);
        assert_eq!(decided(Some(&long), false), Err(BootstrapError::TooLong));
    }

    #[test]
    fn later_starts_change_nothing() {
        let given = Secret::new("changeme");
        let start = FirstStart {
            has_users: true,
            given: Some(&given),
            is_beyond_loopback: true,
        };
        assert_eq!(start.root_password([0; 16]), Ok(RootPassword::Keep));
    }

    #[test]
    fn a_well_known_password_opens_nothing_to_others() {
        assert!(refuses_login(&Secret::new("changeme"), false));
        assert!(!refuses_login(&Secret::new("changeme"), true));
        assert!(!refuses_login(&Secret::new("correct horse"), false));
    }

    #[test]
    fn no_password_is_printed_by_accident() {
        let root = decided(Some("correct horse"), false).unwrap();
        assert!(!format!("{root:?}").contains("horse"));
        let refused = decided(Some("x7-k"), true).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("x7-k"));
    }
}
