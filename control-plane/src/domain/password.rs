//! Which passwords may be chosen: the one rule, for users, for one's own change and for the first start.

use super::Invalid;

/// Shortest password that may be chosen, characters.
pub const SHORTEST_PASSWORD: usize = 10;
/// Longest password, bytes: of longer ones the hash alone would be work.
pub const LONGEST_PASSWORD: usize = 1024;

/// What anybody would try first: the predecessor's default, what documents and images use, and what
/// lists of leaked passwords begin with. In small letters.
const WELL_KNOWN: [&str; 38] = [
    "",
    "changeme",
    "change_me",
    "change-me",
    "changeit",
    "changemenow",
    "changeme123",
    "password",
    "password1",
    "password12",
    "password123",
    "password1234",
    "passw0rd",
    "p@ssw0rd",
    "passw0rd123",
    "passwordpassword",
    "root",
    "toor",
    "admin",
    "admin123",
    "adminadmin",
    "administrator",
    "aivonx",
    "aivonxaivonx",
    "ollama",
    "secret",
    "default",
    "letmein",
    "letmein1234",
    "qwertyuiop",
    "qwerty123",
    "qwerty12345",
    "1q2w3e4r5t",
    "12345678910",
    "iloveyou",
    "iloveyou12",
    "welcome1",
    "trustno1",
];

/// Why a password may not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Fewer than [`SHORTEST_PASSWORD`] characters.
    #[error("must have at least {SHORTEST_PASSWORD} characters")]
    TooShort,
    /// More than [`LONGEST_PASSWORD`] bytes.
    #[error("must have at most {LONGEST_PASSWORD} bytes")]
    TooLong,
    /// It stands in documents and lists.
    #[error("is one that anybody would try")]
    WellKnown,
    /// It is the user's name.
    #[error("must not be the user's name")]
    Name,
}

/// Whether a user of this name may choose this password.
pub fn judge_password(password: &str, user_name: &str) -> Result<(), Weak> {
    if password.len() > LONGEST_PASSWORD {
        return Err(Weak::TooLong);
    }
    if password.to_lowercase() == user_name.to_lowercase() {
        return Err(Weak::Name);
    }
    if is_well_known(password) {
        return Err(Weak::WellKnown);
    }
    if password.chars().count() < SHORTEST_PASSWORD {
        return Err(Weak::TooShort);
    }
    Ok(())
}

/// The same, told of the field that held it.
pub fn check_password(field: &str, password: &str, user_name: &str) -> Result<(), Invalid> {
    judge_password(password, user_name).map_err(|weak| Invalid::of(field, weak.to_string()))
}

/// Whether anybody would try this password first: `changeme` and its kin.
pub fn is_well_known(password: &str) -> bool {
    let plain = password.trim().to_lowercase();
    let mut characters = plain.chars();
    let first = characters.next();
    let is_one_repeated = characters.all(|character| Some(character) == first);
    is_one_repeated || WELL_KNOWN.contains(&plain.as_str()) || is_counting(&plain)
}

/// `123456789` and the like.
fn is_counting(text: &str) -> bool {
    "01234567890123456789".contains(text) || "98765432109876543210".contains(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_short_and_own_names_cannot_be_chosen() {
        for (password, name, judged) in [
            ("correct horse", "root", Ok(())),
            ("ten-letter", "root", Ok(())),
            ("ChangeMe", "root", Err(Weak::WellKnown)),
            ("ChangeMe123", "root", Err(Weak::WellKnown)),
            ("aaaaaaaaaaaa", "root", Err(Weak::WellKnown)),
            ("1234567890", "root", Err(Weak::WellKnown)),
            ("Margarete-1", "margarete-1", Err(Weak::Name)),
            ("nine-lett", "root", Err(Weak::TooShort)),
            ("pässwörtä", "root", Err(Weak::TooShort)),
            (&"ab".repeat(513), "root", Err(Weak::TooLong)),
        ] {
            assert_eq!(judge_password(password, name), judged, "{password}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_never_the_password() {
        let invalid = check_password("new", "operator-one", "Operator-One").unwrap_err();
        assert_eq!(invalid.fields.keys().collect::<Vec<_>>(), ["new"]);
        assert!(!invalid.to_string().contains("operator-one"), "{invalid}");
    }

    proptest::proptest! {
        #[test]
        fn no_password_makes_judging_panic(password in ".{0,40}", name in ".{0,20}") {
            let _ = judge_password(&password, &name);
        }
    }
}
