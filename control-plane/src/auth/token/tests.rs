//! Access tokens: what is signed is read back, and every kind of forgery is refused.

use serde_json::{Value, json};

use super::*;

const SECRET: [u8; 32] = [1; 32];

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn ring() -> KeyRing {
    KeyRing::new(vec![SigningKey::new("k1", SECRET, at(-1000), None)]).unwrap()
}

fn subject() -> Subject {
    Subject {
        user_id: 7,
        name: "Ada".into(),
        role: Role::Operator,
        password: 5,
    }
}

fn signed() -> String {
    let token = ring().sign(&subject(), LIFETIME, at(0), [9; 16]);
    token.reveal().to_owned()
}

fn claims() -> Value {
    json!({
        "token_type": "access", "exp": at(900).timestamp(), "iat": at(0).timestamp(),
        "jti": "j", "user_id": "7", "name": "Ada", "role": "operator", "pwd": 5
    })
}

/// A token with any header and claims, signed with HMAC-SHA256 under `secret`.
fn forged(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims.to_string().as_bytes())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = base64url(ring::hmac::sign(&key, message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT", "kid": "k1"})
}

fn refusal(token: &str) -> TokenError {
    ring().verify(token, at(1)).unwrap_err()
}

#[test]
fn what_is_signed_is_read_back() {
    let access = ring().verify(&signed(), at(1)).unwrap();
    assert_eq!(access.subject, subject());
    assert_eq!((access.issued_at, access.expires_at), (at(0), at(900)));
    assert_eq!(access.jti, base64url(&[9; 16]));
}

#[test]
fn the_claims_are_the_predecessors_and_ours() {
    let token = signed();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.kid.as_deref(), Some("k1"));
    let read = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(&token).unwrap();
    let mut expected = claims();
    expected["jti"] = json!(base64url(&[9; 16]));
    assert_eq!(read, expected);
}

#[test]
fn the_helper_of_these_tests_signs_as_the_ring_does() {
    let token = forged(&header(), &claims(), &SECRET);
    assert_eq!(ring().verify(&token, at(1)).unwrap().subject, subject());
}

#[test]
fn a_token_is_good_until_it_expires_and_not_before_its_time() {
    let token = signed();
    assert!(ring().verify(&token, at(899)).is_ok());
    assert_eq!(ring().verify(&token, at(900)), Err(TokenError::Expired));
    assert!(
        ring().verify(&token, at(-30)).is_ok(),
        "clocks may be 30 s apart"
    );
    assert_eq!(ring().verify(&token, at(-31)), Err(TokenError::NotYetValid));
    let mut later = claims();
    later["nbf"] = json!(at(100).timestamp());
    let token = forged(&header(), &later, &SECRET);
    assert_eq!(refusal(&token), TokenError::NotYetValid);
}

#[test]
fn no_algorithm_is_no_token() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "k1"});
        let signed = forged(&header, &claims(), &SECRET);
        assert_eq!(refusal(&signed), TokenError::Malformed, "{alg}");
        let end = signed.rfind('.').unwrap();
        assert_eq!(refusal(&signed[..=end]), TokenError::Malformed, "{alg}");
        assert_eq!(refusal(&signed[..end]), TokenError::Malformed, "{alg}");
    }
    let no_alg = forged(&json!({"typ": "JWT", "kid": "k1"}), &claims(), &SECRET);
    assert_eq!(refusal(&no_alg), TokenError::Malformed);
}

#[test]
fn another_algorithm_is_refused_even_with_the_right_secret() {
    for alg in ["HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"] {
        let header = json!({"alg": alg, "typ": "JWT", "kid": "k1"});
        let token = forged(&header, &claims(), &SECRET);
        assert_eq!(refusal(&token), TokenError::Algorithm, "{alg}");
    }
}

#[test]
fn a_wrong_secret_is_refused_as_are_key_names_that_nobody_knows() {
    let wrong = forged(&header(), &claims(), &[2; 32]);
    assert_eq!(refusal(&wrong), TokenError::Signature);
    let empty = forged(&header(), &claims(), &[]);
    assert_eq!(refusal(&empty), TokenError::Signature);
    let names = [json!("k2"), json!(""), json!("../../dev/null"), json!(null)];
    for kid in names {
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid});
        let token = forged(&header, &claims(), &SECRET);
        assert_eq!(refusal(&token), TokenError::UnknownKey, "{kid}");
    }
    let none = forged(&json!({"alg": "HS256"}), &claims(), &SECRET);
    assert_eq!(refusal(&none), TokenError::UnknownKey);
}

#[test]
fn a_key_in_the_header_is_not_believed() {
    let jwk = json!({"kty": "oct", "k": base64url(&[2; 32]), "alg": "HS256"});
    let header = json!({"alg": "HS256", "kid": "k1", "jwk": jwk});
    let token = forged(&header, &claims(), &[2; 32]);
    assert_eq!(refusal(&token), TokenError::Signature);
}

#[test]
fn swapped_claims_are_refused() {
    let token = signed();
    let parts: Vec<_> = token.split('.').collect();
    let mut admin = claims();
    admin["role"] = json!("admin");
    let admin = base64url(admin.to_string().as_bytes());
    let swapped = format!("{}.{admin}.{}", parts[0], parts[2]);
    assert_eq!(refusal(&swapped), TokenError::Signature);
}

#[test]
fn every_truncation_and_every_other_byte_is_refused() {
    let token = signed();
    for end in 0..token.len() {
        assert!(ring().verify(&token[..end], at(1)).is_err(), "{end}");
    }
    for place in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(bytes).unwrap();
        assert!(ring().verify(&other, at(1)).is_err(), "{place}");
    }
    assert!(ring().verify(&format!("{token}A"), at(1)).is_err());
    assert!(ring().verify(&format!("{token}."), at(1)).is_err());
    assert!(ring().verify(&format!("{token}="), at(1)).is_err());
}

#[test]
fn a_missing_or_mistyped_claim_is_refused() {
    for claim in [
        "token_type",
        "exp",
        "iat",
        "jti",
        "user_id",
        "name",
        "role",
        "pwd",
    ] {
        let mut less = claims();
        less.as_object_mut().unwrap().remove(claim);
        let token = forged(&header(), &less, &SECRET);
        assert_eq!(refusal(&token), TokenError::Claims, "{claim}");
        for value in [json!(null), json!([]), json!(1.5)] {
            let mut other = claims();
            other[claim] = value;
            let token = forged(&header(), &other, &SECRET);
            assert_eq!(refusal(&token), TokenError::Claims, "{claim}");
        }
    }
    for (claim, value) in [
        ("role", json!("root")),
        ("user_id", json!("7 or 1=1")),
        ("exp", json!(i64::MAX)),
        ("nbf", json!("soon")),
        ("aud", json!("elsewhere")),
    ] {
        let mut other = claims();
        other[claim] = value;
        let token = forged(&header(), &other, &SECRET);
        assert_eq!(refusal(&token), TokenError::Claims, "{claim}");
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    for other in ["refresh", "", "ACCESS"] {
        let mut claims = claims();
        claims["token_type"] = json!(other);
        let token = forged(&header(), &claims, &SECRET);
        assert_eq!(refusal(&token), TokenError::WrongType);
    }
}

#[test]
fn a_token_outlives_its_key_only_until_the_key_retires() {
    let old = |retired| SigningKey::new("k1", SECRET, at(-1000), retired);
    let new = SigningKey::new("k2", [3; 32], at(10), None);
    let token = signed();
    let ring = KeyRing::new(vec![old(Some(at(500))), new.clone()]).unwrap();
    assert!(ring.verify(&token, at(499)).is_ok());
    assert_eq!(ring.verify(&token, at(500)), Err(TokenError::UnknownKey));
    let newer = ring.sign(&subject(), LIFETIME, at(100), [0; 16]);
    let header = jsonwebtoken::decode_header(newer.reveal()).unwrap();
    assert_eq!(header.kid.as_deref(), Some("k2"));
    let later = KeyRing::new(vec![new]).unwrap();
    assert!(later.verify(newer.reveal(), at(101)).is_ok());
}

#[test]
fn an_endless_token_is_not_read() {
    assert_eq!(refusal(&"a".repeat(1 << 20)), TokenError::Malformed);
    let mut long = claims();
    long["name"] = json!("a".repeat(LONGEST_TOKEN));
    let token = forged(&header(), &long, &SECRET);
    assert_eq!(refusal(&token), TokenError::Malformed);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_verifying_panic(text in ".{0,200}") {
        proptest::prop_assert!(ring().verify(&text, at(1)).is_err());
    }

    #[test]
    fn no_header_and_claims_make_verifying_panic(
        header in "[{\":a-zA-Z0-9,}]{0,60}", claims in ".{0,60}", signature in "[a-zA-Z0-9_-]{0,50}"
    ) {
        let token = format!("{}.{}.{signature}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        proptest::prop_assert!(ring().verify(&token, at(1)).is_err());
    }

    #[test]
    fn names_of_any_kind_come_back_as_they_were(name in ".{0,60}", user_id: i64) {
        let subject = Subject { user_id, name, role: Role::Viewer, password: -user_id.saturating_abs() };
        let token = ring().sign(&subject, LIFETIME, at(0), [0; 16]);
        proptest::prop_assert_eq!(ring().verify(token.reveal(), at(1)).unwrap().subject, subject);
    }
}
