//! Several who write at once: nothing is lost, and the revision only grows.

use std::collections::BTreeSet;

use aivonx_control_plane::store::StoreError;
use aivonx_shared::revision::Revision;

use crate::world::{World, change, change_at, digest, key, node, on_both};

on_both!(
    revisions_of_two_control_planes_are_all_different_and_none_is_left_out,
    no_update_is_lost_between_two_control_planes,
    a_reader_sees_one_state_while_others_write,
    a_new_epoch_is_newer_than_all_before,
    a_caller_that_leaves_does_not_break_a_change_off,
);

const EACH: usize = 20;

async fn revisions_of_two_control_planes_are_all_different_and_none_is_left_out(world: World) {
    let before = world.db.revision().await.unwrap();
    let mut tasks = Vec::new();
    for (plane, db) in [world.db.clone(), world.another().await]
        .into_iter()
        .enumerate()
    {
        tasks.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            for number in 0..EACH {
                let new = node(&format!("n{plane}-{number}"));
                seen.push(db.create_node(&change(), new).await.unwrap().1);
            }
            seen
        }));
    }
    let mut all = BTreeSet::new();
    for task in tasks {
        let seen = task.await.unwrap();
        assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
        all.extend(seen);
    }
    let most = u64::try_from(2 * EACH).unwrap();
    let expected: BTreeSet<_> = (1..=most)
        .map(|step| Revision::new(before.epoch, before.number + step))
        .collect();
    assert_eq!(all, expected);
    assert_eq!(world.audit().await.len(), 2 * EACH);
}

async fn no_update_is_lost_between_two_control_planes(world: World) {
    let (made, _) = world.db.create_node(&change(), node("a")).await.unwrap();
    let mut tasks = Vec::new();
    for db in [world.db.clone(), world.another().await] {
        tasks.push(tokio::spawn(async move {
            let mut left = EACH;
            while left > 0 {
                let present = db.node(made.id).await.unwrap();
                let mut wanted = present.spec();
                wanted.weight += 1;
                match db
                    .update_node(&change(), made.id, Some(present.version), wanted)
                    .await
                {
                    Ok(_) => left -= 1,
                    Err(StoreError::Conflict { current }) => assert!(current > present.version),
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let after = world.db.node(made.id).await.unwrap();
    let most = i32::try_from(2 * EACH).unwrap();
    assert_eq!(
        (after.weight, after.version),
        (1 + most, i64::from(1 + most))
    );
}

async fn a_reader_sees_one_state_while_others_write(world: World) {
    let before = world.db.revision().await.unwrap();
    let other = world.another().await;
    let writer = tokio::spawn(async move {
        for number in 0..EACH {
            other
                .create_node(&change(), node(&format!("n{number}")))
                .await
                .unwrap();
        }
    });
    let mut is_over = false;
    while !is_over {
        is_over = writer.is_finished();
        let fleet = world.db.fleet().await.unwrap();
        let nodes = u64::try_from(fleet.nodes.len()).unwrap();
        assert_eq!(fleet.revision.number, before.number + nodes);
    }
    writer.await.unwrap();
}

async fn a_new_epoch_is_newer_than_all_before(world: World) {
    let db = &world.db;
    db.create_api_key(&change(), key("a"), digest('a'))
        .await
        .unwrap();
    let before = db.revision().await.unwrap();
    // also by a clock that stands in the past
    let mut past = change_at(0);
    past.now = chrono::DateTime::UNIX_EPOCH.into();
    let first = db.new_epoch(&past, None).await.unwrap();
    let second = db.new_epoch(&past, None).await.unwrap();
    assert!(before.epoch < first.epoch && first.epoch < second.epoch);
    assert!(before.number < first.number && first.number < second.number);
    assert_eq!(db.revision().await.unwrap(), second);
    assert_eq!(world.audit().await[0].action, "new_epoch");
    // also where data planes hold one that this database, restored from a backup, never gave out
    let held = Revision::new(second.epoch + 1000, second.number + 1000);
    let third = db.new_epoch(&past, Some(held)).await.unwrap();
    assert_eq!(third.epoch, held.epoch + 1);
}

async fn a_caller_that_leaves_does_not_break_a_change_off(world: World) {
    let before = world.db.revision().await.unwrap().number;
    for number in 0..EACH {
        let (change, new) = (change(), node(&format!("n{number}")));
        let call = world.db.create_node(&change, new);
        // polled once, then dropped: as a handler whose client hangs up
        tokio::select! {
            biased;
            _ = call => {}
            () = tokio::task::yield_now() => {}
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let wanted = before + u64::try_from(EACH).unwrap();
    while world.db.revision().await.unwrap().number < wanted {
        assert!(
            std::time::Instant::now() < deadline,
            "a change was broken off"
        );
    }
    let fleet = world.db.fleet().await.unwrap();
    assert_eq!((fleet.nodes.len(), world.audit().await.len()), (EACH, EACH));
}
