//! Usage: stored once, summed as asked.

use aivonx_control_plane::store::{UsageGroup, UsageQuery, UsageRow, UsageSum};

use crate::world::{World, at, on_both};

on_both!(
    a_batch_counts_once_however_often_and_wherever_it_arrives,
    batches_of_many_planes_add_up,
    sums_tell_apart_what_is_asked,
);

fn row(hour: i64, key: &str, model: &str, node: &str, requests: i64) -> UsageRow {
    UsageRow {
        hour: at(hour * 3600),
        key_id: key.to_owned(),
        model: model.to_owned(),
        node: node.to_owned(),
        requests,
        prompt_tokens: requests * 10,
        output_tokens: requests * 100,
    }
}

fn query(by: UsageGroup) -> UsageQuery {
    UsageQuery {
        from: at(0),
        to: at(3600 * 24),
        key_id: None,
        model: None,
        node: None,
        by,
    }
}

fn words(sums: &[UsageSum]) -> Vec<String> {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let hour = |sum: &UsageSum| {
        sum.hour
            .map(|hour| (hour.utc() - at(0).utc()).num_hours().to_string())
    };
    let word = |sum: &UsageSum| {
        let hour = hour(sum).unwrap_or_default();
        format!(
            "{hour}/{}/{}/{}={}",
            part(&sum.key_id),
            part(&sum.model),
            part(&sum.node),
            sum.requests
        )
    };
    sums.iter().map(word).collect()
}

async fn a_batch_counts_once_however_often_and_wherever_it_arrives(world: World) {
    let other = world.another().await;
    let rows = || vec![row(0, "k", "m", "n", 1), row(0, "k", "m2", "n", 2)];
    let mut tasks = Vec::new();
    for index in 0..16 {
        let db = if index % 2 == 0 {
            world.db.clone()
        } else {
            other.clone()
        };
        tasks.push(tokio::spawn(async move {
            db.add_usage("batch-1", "gw-1", at(0), rows()).await
        }));
    }
    let mut stored = 0;
    for task in tasks {
        stored += usize::from(task.await.unwrap().unwrap());
    }
    assert_eq!(stored, 1);
    let sums = world.db.usage(query(UsageGroup::default())).await.unwrap();
    assert_eq!(sums.len(), 1);
    assert_eq!(
        (
            sums[0].requests,
            sums[0].prompt_tokens,
            sums[0].output_tokens
        ),
        (3, 30, 300)
    );
}

async fn batches_of_many_planes_add_up(world: World) {
    let mut tasks = Vec::new();
    for batch in 0..20 {
        let db = world.db.clone();
        // in opposite orders, which must not make two of them wait for each other
        let mut rows: Vec<_> = (0..5)
            .map(|key| row(0, &format!("k{key}"), "m", "n", 1))
            .collect();
        if batch % 2 == 0 {
            rows.reverse();
        }
        tasks.push(tokio::spawn(async move {
            db.add_usage(&format!("b{batch}"), "gw", at(0), rows).await
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(true));
    }
    let by = UsageGroup {
        key: true,
        ..UsageGroup::default()
    };
    let sums = world.db.usage(query(by)).await.unwrap();
    assert_eq!(
        words(&sums),
        (0..5)
            .map(|key| format!("/k{key}//=20"))
            .collect::<Vec<_>>()
    );
}

async fn sums_tell_apart_what_is_asked(world: World) {
    let db = &world.db;
    let rows = vec![
        row(0, "a", "m1", "n1", 1),
        row(0, "b", "m1", "n2", 2),
        row(1, "a", "m2", "n1", 4),
        row(24, "a", "m1", "n1", 8),
    ];
    db.add_usage("b", "gw", at(0), rows).await.unwrap();
    let none = UsageGroup::default();
    let sums = async |query: UsageQuery| words(&db.usage(query).await.unwrap());
    assert_eq!(sums(query(none)).await, ["///=7"]);
    assert_eq!(
        sums(query(UsageGroup { hour: true, ..none })).await,
        ["0///=3", "1///=4"]
    );
    let by = UsageGroup {
        key: true,
        model: true,
        ..none
    };
    assert_eq!(sums(query(by)).await, ["/a/m1/=1", "/a/m2/=4", "/b/m1/=2"]);
    let by = UsageGroup {
        hour: true,
        key: true,
        model: true,
        node: true,
    };
    let of_a = UsageQuery {
        key_id: Some("a".to_owned()),
        ..query(by)
    };
    assert_eq!(sums(of_a).await, ["0/a/m1/n1=1", "1/a/m2/n1=4"]);
    let filtered = UsageQuery {
        key_id: Some("a".to_owned()),
        model: Some("m1".to_owned()),
        node: Some("n1".to_owned()),
        to: at(3600 * 25),
        ..query(none)
    };
    assert_eq!(sums(filtered).await, ["///=9"]);
    let quoted = UsageQuery {
        key_id: Some("' OR 1=1 --".to_owned()),
        ..query(none)
    };
    assert!(sums(quoted).await.is_empty());
}
