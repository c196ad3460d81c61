//! What the database holds, as data planes read it.

use aivonx_control_plane::domain::SettingsPatch;
use aivonx_shared::fleet_doc::{Discover, FleetDoc, Strategy};
use serde_json::json;

use crate::world::{World, change, digest, key, node_from, on_both};

on_both!(the_document_of_a_fleet_is_read_by_data_planes);

async fn the_document_of_a_fleet_is_read_by_data_planes(world: World) {
    let db = &world.db;
    assert_eq!(
        FleetDoc::from_yaml(&db.fleet().await.unwrap().document()).unwrap(),
        FleetDoc::default()
    );
    let first = node_from(json!({
        "name": "GPU \"1\" \u{2028}é".replace('\u{2028}', ""), "url": "https://gpu.example", "weight": 2, "slots": 4,
        "labels": {"a: b": "#c\u{3000}'\"\\", "é": ""}, "models": {"include": ["llama*"]}, "discover": "dns4",
        "tls": {"server_name": "ollama.internal"}, "enabled": false,
    }));
    db.create_node(&change(), first).await.unwrap();
    let mut new = key("webui");
    new.rate = Some("600/m".to_owned());
    new.expires_at = Some(crate::world::at(0).utc());
    db.create_api_key(&change(), new, digest('a'))
        .await
        .unwrap();
    let mut off = key("off");
    off.enabled = false;
    db.create_api_key(&change(), off, digest('b'))
        .await
        .unwrap();
    let settings = json!({
        "strategy": "lowest_latency", "anonymous": [{"cidr": "10.0.0.0/8", "id": "office"}],
        "aliases": {"small": ["qwen3:8b"]}, "keep_alive": [{"max": "1h"}], "cloud": "allow",
        "on_revoke": "end", "pull": {"to": {"count": 2}}, "usage": {"inject": false},
    });
    let patch = SettingsPatch::parse(settings, &[]).unwrap();
    db.set_settings(&change(), None, patch).await.unwrap();

    let text = db.fleet().await.unwrap().document();
    let doc = FleetDoc::from_yaml(&text).unwrap();
    assert_eq!(doc.strategy, Strategy::LowestLatency);
    let node = &doc.nodes[0];
    assert_eq!(
        (node.name.as_str(), node.weight, node.slots, node.enabled),
        ("GPU-1", 2, 4, false)
    );
    assert_eq!(node.labels["a: b"], "#c\u{3000}'\"\\");
    assert_eq!(node.access.discover, Discover::Dns4);
    assert_eq!(
        node.access.tls.server_name.as_deref(),
        Some("ollama.internal")
    );
    let ids: Vec<_> = doc.keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, ["webui"]);
    assert_eq!(doc.aliases.len(), 1);
    assert!(!doc.usage.inject);
}
