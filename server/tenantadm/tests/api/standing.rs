//! What every call must know of its tenant.

use ambidex_tenantadm::{Plan, Status};
use serde_json::json;

use crate::rig::World;

#[tokio::test]
async fn changes_of_this_process_count_at_once() {
    let world = World::new();
    let id = world.tenantadm.create("Acme", Plan::Os).await.unwrap().id;
    let standing = async || world.tenantadm.standing(&id).await.unwrap().unwrap();
    assert_eq!(standing().await.status, Status::Active);
    assert!(standing().await.limits.is_none(), "nothing is limited");
    let limits =
        json!({"api_limits": {"management": {"quota": {"max_calls": 2, "interval_sec": 60}}}});
    assert_eq!(
        world.call("PUT", &format!("/tenants/{id}"), limits).await.0,
        204
    );
    assert_eq!(
        standing().await.limits.as_ref().unwrap().management.quota,
        (2, 60)
    );
    for (status, wanted) in [("suspended", Status::Suspended), ("active", Status::Active)] {
        let path = format!("/tenants/{id}/status");
        assert_eq!(
            world.call("PUT", &path, json!({"status": status})).await.0,
            200
        );
        assert_eq!(standing().await.status, wanted);
    }
    assert!(world.tenantadm.standing("nobody").await.unwrap().is_none());
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let world = World::new();
    let id = world.tenantadm.create("Acme", Plan::Os).await.unwrap().id;
    let burst = |action: &str, uri: &str| json!({"bursts": [{"action": action, "uri": uri, "min_interval_sec": 1}]});
    for limits in [
        json!({"quota": {"max_calls": 1}}),
        json!({"quota": {"max_calls": -1, "interval_sec": 60}}),
        burst("POST", "api"),
        burst("POST", "/api?x=1"),
        burst("NO METHOD", "/api"),
        json!({"bursts": [{}]}),
        json!({"bursts": vec![json!({"action": "GET", "uri": "/", "min_interval_sec": 1}); 101]}),
    ] {
        let body = json!({"api_limits": {"devices": limits}});
        assert_eq!(
            world.call("PUT", &format!("/tenants/{id}"), &body).await.0,
            400,
            "{body}"
        );
    }
}
