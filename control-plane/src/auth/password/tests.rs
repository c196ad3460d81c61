//! Passwords: hashes old and new, users that do not exist, and a flood of logins.

use super::*;

const SALT: [u8; 16] = *b"0123456789abcdef";

fn passwords() -> Passwords {
    Passwords::new(2)
}

async fn verify(password: &str, stored: Option<&str>) -> Verdict {
    let stored = stored.map(str::to_owned);
    let verdict = passwords().verify(Secret::new(password), stored).await;
    verdict.unwrap()
}

const NO: Verdict = Verdict {
    ok: false,
    needs_upgrade: false,
};

#[tokio::test]
async fn a_password_matches_its_own_hash_alone() {
    let hash = passwords().hash(Secret::new("correct horse"), SALT).await;
    let hash = hash.unwrap();
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    let right = verify("correct horse", Some(&hash)).await;
    assert_eq!(
        right,
        Verdict {
            ok: true,
            needs_upgrade: false
        }
    );
    assert_eq!(verify("correct horses", Some(&hash)).await, NO);
    assert_eq!(verify("", Some(&hash)).await, NO);
}

#[tokio::test]
async fn the_predecessors_hash_works_and_asks_for_an_upgrade() {
    let hash = "pbkdf2_sha256$100000$abc$9no4S2S532CzKDyvZ6Mo58VoZ2xjOfrsBnVa9a407iU=";
    let right = verify("changeme", Some(hash)).await;
    assert!(right.ok && right.needs_upgrade);
    assert_eq!(verify("wrong", Some(hash)).await, NO, "nothing to upgrade");
}

#[tokio::test]
async fn weaker_parameters_work_and_ask_for_an_upgrade() {
    let params = Params::new(8 * 1024, 1, 1, None).unwrap();
    for algorithm in [Algorithm::Argon2id, Algorithm::Argon2i] {
        let weak = Argon2::new(algorithm, Version::V0x13, params.clone());
        let hash = weak.hash_password_with_salt(b"old", &SALT).unwrap();
        let verdict = verify("old", Some(&hash.to_string())).await;
        assert!(verdict.ok && verdict.needs_upgrade, "{algorithm}");
    }
}

#[tokio::test]
async fn nobody_has_no_password_and_what_is_no_hash_is_nobodys() {
    for stored in [
        None,
        Some(""),
        Some("!unusable"),
        Some("plain"),
        Some(NOBODY),
    ] {
        for password in ["", "plain", "!unusable"] {
            assert_eq!(verify(password, stored).await, NO, "{stored:?}");
        }
    }
}

#[test]
fn a_user_that_does_not_exist_costs_what_a_real_one_does() {
    let nobody = Argon2Hash::read(NOBODY).unwrap();
    assert!(nobody.is_ours());
    let hash = nobody.hash.hash.unwrap();
    assert_eq!(hash.as_bytes().len(), Params::DEFAULT_OUTPUT_LEN);
}

#[test]
fn a_stored_hash_cannot_ask_for_all_the_memory() {
    let end = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(is_readable(&format!("$argon2id$v=19$m=65536,t=3,p=4{end}")));
    for costs in [
        "m=65537,t=2,p=1",
        "m=4194304,t=2,p=1",
        "m=19456,t=11,p=1",
        "m=19456,t=2,p=5",
    ] {
        let text = format!("$argon2id$v=19${costs}{end}");
        assert!(!is_readable(&text), "{text}");
    }
    assert!(!is_readable(
        "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    ));
}

#[tokio::test]
async fn a_password_without_end_is_refused_and_never_right() {
    let long = "a".repeat(LONGEST_PASSWORD + 1);
    let refused = passwords().hash(Secret::new(long.clone()), SALT).await;
    assert_eq!(refused, Err(PasswordError::TooLong));
    let cut = &long[..LONGEST_PASSWORD];
    let hash = passwords().hash(Secret::new(cut), SALT).await.unwrap();
    assert!(verify(cut, Some(&hash)).await.ok);
    assert_eq!(verify(&long, Some(&hash)).await, NO);
}

#[tokio::test]
async fn a_flood_of_logins_is_told_to_come_again() {
    let passwords = Passwords::new(1);
    let held = Arc::clone(&passwords.places).acquire_owned().await.unwrap();
    let waiting: Vec<_> = (0..=WAITING_PER_PLACE)
        .map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.work(|| ()).await })
        })
        .collect();
    while passwords.admitted.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = passwords.verify(Secret::new("x"), None).await;
    assert_eq!(refused, Err(PasswordError::Busy));
    drop(held);
    for one in waiting {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(passwords.work(|| 1).await, Ok(1), "places come back");
}

#[tokio::test]
async fn a_caller_that_went_away_keeps_its_place_until_the_work_is_done() {
    let passwords = Passwords::new(1);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let working = passwords.clone();
    let caller = tokio::spawn(async move {
        let work = move || {
            let _ = begun.send(());
            let _ = wait.recv();
        };
        working.work(work).await
    });
    beginning.await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(passwords.places.available_permits(), 0);
    drop(go);
    assert_eq!(passwords.work(|| 1).await, Ok(1));
}

proptest::proptest! {
    #[test]
    fn no_stored_text_makes_reading_panic(text in "(\\$argon2id\\$v=19)?[$a-z0-9=,+/é]{0,100}") {
        let _ = is_readable(&text);
    }
}
