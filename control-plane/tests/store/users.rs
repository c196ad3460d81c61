//! Users of the control plane.

use aivonx_control_plane::domain::Role;
use aivonx_control_plane::store::{NewSession, Page, StoreError, UserFilter};

use crate::world::{World, at, change, change_at, hidden, on_both, user};

on_both!(
    names_of_users_are_one_whatever_their_case,
    the_first_user_is_made_once,
    the_last_admin_stays_even_when_two_demote_each_other,
    another_password_ends_all_logins_but_one,
    a_hash_is_upgraded_only_while_it_is_the_same,
    users_are_filtered,
    texts_that_no_database_has_are_no_fault_of_the_store,
);

async fn names_of_users_are_one_whatever_their_case(world: World) {
    let db = &world.db;
    let made = db
        .create_user(&change(), user("Änne", Role::Viewer), hidden("h"))
        .await
        .unwrap();
    assert_eq!(made.spec(), user("Änne", Role::Viewer));
    assert_eq!(db.user_by_name("äNNE").await.unwrap(), made);
    let again = db
        .create_user(&change(), user("änne", Role::Viewer), hidden("h"))
        .await;
    assert_eq!(again, Err(StoreError::Duplicate { field: "name" }));
    assert_eq!(db.user_by_name("anne").await, Err(StoreError::NotFound));
    let changed = db
        .update_user(&change(), made.id, Some(1), user("ÄNNE", Role::Operator))
        .await
        .unwrap();
    assert_eq!((changed.version, changed.role), (2, Role::Operator));
    let stale = db.delete_user(&change(), made.id, Some(1)).await;
    assert_eq!(stale, Err(StoreError::Conflict { current: 2 }));
    db.delete_user(&change(), made.id, Some(2)).await.unwrap();
    let text = serde_json::to_string(&world.audit().await).unwrap();
    assert!(text.contains("***") && !text.contains("\"h\""), "{text}");
    // users are not in the fleet document
    assert_eq!(db.revision().await.unwrap().number, 0);
}

async fn the_first_user_is_made_once(world: World) {
    let other = world.another().await;
    let (one, two) = (change(), change());
    let (one, two) = tokio::join!(
        world
            .db
            .create_first_user(&one, user("root", Role::Admin), hidden("1")),
        other.create_first_user(&two, user("root", Role::Admin), hidden("2")),
    );
    assert_eq!([one.unwrap(), two.unwrap()].iter().flatten().count(), 1);
}

async fn the_last_admin_stays_even_when_two_demote_each_other(world: World) {
    let db = &world.db;
    let a = db
        .create_user(&change(), user("a", Role::Admin), hidden("h"))
        .await
        .unwrap();
    let b = db
        .create_user(&change(), user("b", Role::Admin), hidden("h"))
        .await
        .unwrap();
    let other = world.another().await;
    let (one, two) = (change(), change());
    let done = tokio::join!(
        db.update_user(&one, a.id, None, user("a", Role::Viewer)),
        other.update_user(&two, b.id, None, user("b", Role::Viewer)),
    );
    let left: Vec<_> = [done.0, done.1]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(
        matches!(&left[..], [StoreError::Invalid(invalid)] if invalid.fields.contains_key("role")),
        "{left:?}"
    );
    let filter = UserFilter {
        role: Some(Role::Admin),
        ..UserFilter::default()
    };
    let admin = db.users(filter, Page::ALL).await.unwrap().rows.remove(0);
    let mut asleep = admin.spec();
    asleep.is_active = false;
    assert!(
        db.update_user(&change(), admin.id, None, asleep)
            .await
            .is_err()
    );
    assert!(db.delete_user(&change(), admin.id, None).await.is_err());
    assert_eq!(db.user(admin.id).await.unwrap(), admin);
}

async fn another_password_ends_all_logins_but_one(world: World) {
    let db = &world.db;
    let who = db
        .create_user(&change(), user("a", Role::Admin), hidden("old"))
        .await
        .unwrap();
    for id in ["mine", "other"] {
        let new = NewSession {
            id: id.to_owned(),
            user_id: who.id,
            created_at: at(0),
            expires_at: at(100),
            user_agent: String::new(),
            address: String::new(),
        };
        db.insert_session(new).await.unwrap();
    }
    let token = crate::logins::token('a', 0);
    db.insert_refresh_token(who.id, "f", at(1000), token)
        .await
        .unwrap();
    let keep = Some("mine".to_owned());
    let changed = db
        .set_password(&change_at(5), who.id, hidden("new"), false, keep)
        .await
        .unwrap();
    assert_eq!(
        (changed.password_hash.reveal(), changed.password_changed_at),
        ("new", at(5))
    );
    let left = db.sessions_of(who.id, at(6)).await.unwrap();
    assert_eq!(
        left.iter()
            .map(|session| session.id.as_str())
            .collect::<Vec<_>>(),
        ["mine"]
    );
    assert!(
        db.refresh_tokens_of(who.id, at(6))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(world.audit().await[0].action, "password");
}

async fn a_hash_is_upgraded_only_while_it_is_the_same(world: World) {
    let db = &world.db;
    let who = db
        .create_user(&change(), user("a", Role::Viewer), hidden("1"))
        .await
        .unwrap();
    db.rehash_password(who.id, hidden("0"), hidden("9"))
        .await
        .unwrap();
    assert_eq!(db.user(who.id).await.unwrap().password_hash.reveal(), "1");
    db.rehash_password(who.id, hidden("1"), hidden("2"))
        .await
        .unwrap();
    db.touch_login(who.id, at(3)).await.unwrap();
    let now = db.user(who.id).await.unwrap();
    assert_eq!(
        (now.password_hash.reveal(), now.last_login_at, now.version),
        ("2", Some(at(3)), 1)
    );
}

async fn users_are_filtered(world: World) {
    let db = &world.db;
    for (name, role) in [
        ("Ann", Role::Admin),
        ("bob", Role::Viewer),
        ("joANNa", Role::Viewer),
    ] {
        db.create_user(&change(), user(name, role), hidden("h"))
            .await
            .unwrap();
    }
    let list = async |filter: UserFilter| {
        let rows = db.users(filter, Page::ALL).await.unwrap().rows;
        rows.into_iter()
            .map(|user| user.name)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let all = UserFilter::default;
    assert_eq!(list(all()).await, "Ann bob joANNa");
    assert_eq!(
        list(UserFilter {
            name: Some("aNN".to_owned()),
            ..all()
        })
        .await,
        "Ann joANNa"
    );
    assert_eq!(
        list(UserFilter {
            role: Some(Role::Viewer),
            is_active: Some(true),
            ..all()
        })
        .await,
        "bob joANNa"
    );
}

async fn texts_that_no_database_has_are_no_fault_of_the_store(world: World) {
    for name in ["a\0b", "' OR 1=1 --", "<script>", "\u{1f600}", "\\"] {
        match world.db.user_by_name(name).await {
            Err(StoreError::NotFound | StoreError::Invalid(_)) => {}
            other => panic!("{name:?}: {other:?}"),
        }
    }
    world.db.ping().await.unwrap();
}
