//! What keeps people and programs logged in: refresh tokens, sessions, personal tokens, signing keys.

use aivonx_control_plane::domain::Role;
use aivonx_control_plane::store::{
    Db, NewPersonalToken, NewRefreshToken, NewSession, Rotation, StoreError, User,
};

use crate::world::{World, at, change, change_at, digest, hidden, on_both, user};

on_both!(
    a_refresh_token_is_followed_by_another_and_a_replay_revokes_the_family,
    of_two_who_use_a_token_at_once_one_wins,
    no_exchange_goes_past_the_end_of_a_family,
    expired_revoked_and_unknown_tokens_are_told_apart,
    sessions_are_found_until_they_end,
    personal_tokens_are_found_by_digest_and_belong_to_one_user,
    one_signing_key_signs_and_old_ones_are_forgotten,
    what_is_over_is_purged,
);

pub(crate) fn token(letter: char, seconds: i64) -> NewRefreshToken {
    NewRefreshToken {
        id: format!("jti-{letter}"),
        sha256: digest(letter),
        issued_at: at(seconds),
        expires_at: at(seconds + 100),
        user_agent: "curl".to_owned(),
        address: "192.0.2.1".to_owned(),
    }
}

fn session(id: &str, user_id: i64) -> NewSession {
    NewSession {
        id: id.to_owned(),
        user_id,
        created_at: at(0),
        expires_at: at(100),
        user_agent: String::new(),
        address: String::new(),
    }
}

async fn someone(db: &Db, name: &str) -> User {
    let new = user(name, Role::Operator);
    db.create_user(&change(), new, hidden("h")).await.unwrap()
}

async fn a_refresh_token_is_followed_by_another_and_a_replay_revokes_the_family(world: World) {
    let db = &world.db;
    let who = someone(db, "a").await;
    db.insert_refresh_token(who.id, "f", at(1000), token('a', 0))
        .await
        .unwrap();
    db.insert_refresh_token(who.id, "g", at(1000), token('g', 0))
        .await
        .unwrap();
    let rotated = db
        .rotate_refresh_token(digest('a'), token('b', 10))
        .await
        .unwrap();
    let Rotation::Rotated(second) = rotated else {
        panic!("{rotated:?}")
    };
    assert_eq!(
        (second.family.as_str(), second.user_id, second.id.as_str()),
        ("f", who.id, "jti-b")
    );

    let replayed = db
        .rotate_refresh_token(digest('a'), token('c', 20))
        .await
        .unwrap();
    assert!(
        matches!(&replayed, Rotation::Replayed(token) if token.family == "f"),
        "{replayed:?}"
    );
    // the thief's and the owner's tokens are worth nothing now, and other families are untouched
    let after = db
        .rotate_refresh_token(digest('b'), token('d', 21))
        .await
        .unwrap();
    assert!(matches!(after, Rotation::Revoked(_)), "{after:?}");
    let left = db.refresh_tokens_of(who.id, at(22)).await.unwrap();
    assert_eq!(
        left.iter()
            .map(|token| token.family.as_str())
            .collect::<Vec<_>>(),
        ["g"]
    );
    assert_eq!(
        db.refresh_token(digest('c')).await,
        Err(StoreError::NotFound)
    );
}

async fn of_two_who_use_a_token_at_once_one_wins(world: World) {
    let (db, other) = (&world.db, world.another().await);
    let who = someone(db, "a").await;
    db.insert_refresh_token(who.id, "f", at(1000), token('a', 0))
        .await
        .unwrap();
    let done = tokio::join!(
        db.rotate_refresh_token(digest('a'), token('b', 1)),
        other.rotate_refresh_token(digest('a'), token('c', 1)),
    );
    let done = [done.0.unwrap(), done.1.unwrap()];
    let count = |wanted: fn(&Rotation) -> bool| done.iter().filter(|one| wanted(one)).count();
    assert_eq!(
        count(|one| matches!(one, Rotation::Rotated(_))),
        1,
        "{done:?}"
    );
    assert_eq!(
        count(|one| matches!(one, Rotation::Replayed(_))),
        1,
        "{done:?}"
    );
    assert!(
        db.refresh_tokens_of(who.id, at(2))
            .await
            .unwrap()
            .is_empty()
    );
}

async fn no_exchange_goes_past_the_end_of_a_family(world: World) {
    let db = &world.db;
    let who = someone(db, "a").await;
    let first = db
        .insert_refresh_token(who.id, "f", at(150), token('a', 0))
        .await
        .unwrap();
    assert_eq!(first.expires_at, at(100));
    // a token lives for 100 s, its family for 150
    let rotated = db
        .rotate_refresh_token(digest('a'), token('b', 90))
        .await
        .unwrap();
    let Rotation::Rotated(second) = rotated else {
        panic!("{rotated:?}")
    };
    assert_eq!(
        (second.expires_at, second.family_ends_at),
        (at(150), at(150))
    );
    let rotated = db
        .rotate_refresh_token(digest('b'), token('c', 149))
        .await
        .unwrap();
    let Rotation::Rotated(third) = rotated else {
        panic!("{rotated:?}")
    };
    assert_eq!((third.expires_at, third.family_ends_at), (at(150), at(150)));
    let over = db
        .rotate_refresh_token(digest('c'), token('d', 150))
        .await
        .unwrap();
    assert!(matches!(over, Rotation::Expired(_)), "{over:?}");
}

async fn expired_revoked_and_unknown_tokens_are_told_apart(world: World) {
    let db = &world.db;
    let who = someone(db, "a").await;
    db.insert_refresh_token(who.id, "f", at(1000), token('a', 0))
        .await
        .unwrap();
    db.insert_refresh_token(who.id, "g", at(1000), token('b', 0))
        .await
        .unwrap();
    let expired = db
        .rotate_refresh_token(digest('a'), token('c', 100))
        .await
        .unwrap();
    assert!(matches!(expired, Rotation::Expired(_)), "{expired:?}");
    assert_eq!(db.revoke_refresh_family("g", at(5)).await, Ok(1));
    assert_eq!(db.revoke_refresh_family("g", at(6)).await, Ok(0));
    let revoked = db
        .rotate_refresh_token(digest('b'), token('c', 7))
        .await
        .unwrap();
    assert!(matches!(revoked, Rotation::Revoked(_)), "{revoked:?}");
    let unknown = db
        .rotate_refresh_token(digest('z'), token('c', 7))
        .await
        .unwrap();
    assert_eq!(unknown, Rotation::Unknown);
    assert_eq!(db.revoke_refresh_tokens_of(who.id, at(8)).await, Ok(1));
    let of_nobody = db
        .insert_refresh_token(who.id + 1, "h", at(1000), token('d', 0))
        .await;
    assert_eq!(of_nobody, Err(StoreError::NotFound));
}

async fn sessions_are_found_until_they_end(world: World) {
    let db = &world.db;
    let (who, other) = (someone(db, "a").await, someone(db, "b").await);
    let made = db.insert_session(session("s1", who.id)).await.unwrap();
    assert_eq!(db.session("s1", at(99)).await.unwrap(), (made, who.clone()));
    assert_eq!(db.session("s1", at(100)).await, Err(StoreError::NotFound));
    db.touch_session("s1", at(50), at(150)).await.unwrap();
    assert_eq!(
        db.session("s1", at(100)).await.unwrap().0.last_seen_at,
        at(50)
    );
    assert_eq!(
        db.delete_session(other.id, "s1").await,
        Err(StoreError::NotFound)
    );
    db.delete_session(who.id, "s1").await.unwrap();
    assert!(db.sessions_of(who.id, at(1)).await.unwrap().is_empty());
    // with the user go the sessions
    db.insert_session(session("s2", who.id)).await.unwrap();
    db.delete_user(&change(), who.id, None).await.unwrap();
    assert_eq!(db.session("s2", at(1)).await, Err(StoreError::NotFound));
}

async fn personal_tokens_are_found_by_digest_and_belong_to_one_user(world: World) {
    let db = &world.db;
    let (who, other) = (someone(db, "a").await, someone(db, "b").await);
    let new = |user_id, letter, expires_at| NewPersonalToken {
        user_id,
        name: "ci".to_owned(),
        sha256: digest(letter),
        role: Role::Viewer,
        expires_at,
    };
    let made = db
        .create_personal_token(&change(), new(who.id, 'a', None))
        .await
        .unwrap();
    db.create_personal_token(&change(), new(other.id, 'b', Some(at(10))))
        .await
        .unwrap();
    let again = db
        .create_personal_token(&change(), new(who.id, 'c', None))
        .await;
    assert_eq!(again, Err(StoreError::Duplicate { field: "name" }));
    assert_eq!(
        db.personal_token(digest('a'), at(999)).await.unwrap(),
        (made.clone(), who.clone())
    );
    assert!(db.personal_token(digest('b'), at(9)).await.is_ok());
    assert_eq!(
        db.personal_token(digest('b'), at(10)).await,
        Err(StoreError::NotFound)
    );
    db.touch_personal_token(made.id, at(4)).await.unwrap();
    let mine = db.personal_tokens_of(who.id).await.unwrap();
    assert_eq!(
        mine.iter()
            .map(|token| token.last_used_at)
            .collect::<Vec<_>>(),
        [Some(at(4))]
    );
    let others = db.delete_personal_token(&change(), other.id, made.id).await;
    assert_eq!(others, Err(StoreError::NotFound));
    db.delete_personal_token(&change(), who.id, made.id)
        .await
        .unwrap();
    assert_eq!(
        db.personal_token(digest('a'), at(0)).await,
        Err(StoreError::NotFound)
    );
}

async fn one_signing_key_signs_and_old_ones_are_forgotten(world: World) {
    let (db, other) = (&world.db, world.another().await);
    let (one, two) = (change(), change());
    let (one, two) = tokio::join!(
        db.ensure_signing_key(&one, "k1", hidden("s1")),
        other.ensure_signing_key(&two, "k2", hidden("s2")),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.len(), &one), (1, &two));
    let keys = db
        .rotate_signing_key(&change_at(10), "k3", hidden("s3"), at(0))
        .await
        .unwrap();
    assert_eq!(
        (keys[0].kid.as_str(), keys[0].secret.reveal(), keys.len()),
        ("k3", "s3", 2)
    );
    assert_eq!(keys[1].retired_at, Some(at(10)));
    let keys = db
        .rotate_signing_key(&change_at(30), "k4", hidden("s4"), at(20))
        .await
        .unwrap();
    let kids: Vec<_> = keys.iter().map(|key| key.kid.as_str()).collect();
    assert_eq!(kids, ["k4", "k3"]);
    assert_eq!(db.signing_keys().await.unwrap(), keys);
    let again = db
        .rotate_signing_key(&change_at(31), "k4", hidden("x"), at(20))
        .await;
    assert_eq!(again, Err(StoreError::Duplicate { field: "kid" }));
}

async fn what_is_over_is_purged(world: World) {
    let db = &world.db;
    let who = someone(db, "a").await;
    db.insert_session(session("s1", who.id)).await.unwrap();
    db.insert_refresh_token(who.id, "f", at(1000), token('a', 0))
        .await
        .unwrap();
    db.insert_refresh_token(who.id, "g", at(1000), token('b', 50))
        .await
        .unwrap();
    db.add_usage("batch", "gw", at(0), Vec::new())
        .await
        .unwrap();
    assert_eq!(db.purge(at(99), at(0)).await, Ok(0));
    assert_eq!(db.purge(at(100), at(1)).await, Ok(3));
    assert_eq!(
        db.refresh_tokens_of(who.id, at(100)).await.unwrap().len(),
        1
    );
}
