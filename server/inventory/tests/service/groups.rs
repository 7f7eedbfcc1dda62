use ambidex_access::TenantId;
use http::Method;
use serde_json::json;

use crate::rig::{DEVICES, GROUPS, Rig, id};

async fn put_group(rig: &Rig, number: u128, group: &str) {
    let path = format!("{DEVICES}/{}/group", id(number));
    rig.user(Method::PUT, &path, Some(json!({"group": group})))
        .await
        .ok(204);
}

#[tokio::test]
async fn a_device_moves_between_groups() {
    let rig = Rig::new();
    rig.fleet(&[json!({}), json!({})]).await;
    let path = format!("{DEVICES}/{}/group", id(1));
    assert_eq!(rig.get(&path).await.ok(200).json(), json!({"group": null}));
    put_group(&rig, 1, "staging").await;
    put_group(&rig, 1, "production").await;
    assert_eq!(
        rig.get(&path).await.ok(200).json(),
        json!({"group": "production"})
    );
    assert_eq!(rig.get(GROUPS).await.ok(200).json(), json!(["production"]));
    rig.user(Method::DELETE, &format!("{path}/staging"), None)
        .await
        .error(404);
    rig.user(Method::DELETE, &format!("{path}/production"), None)
        .await
        .ok(204);
    rig.user(Method::DELETE, &format!("{path}/production"), None)
        .await
        .error(404);
    assert_eq!(rig.get(GROUPS).await.json(), json!([]));
    assert_eq!(
        rig.get(&format!("{DEVICES}/{}/group", id(9)))
            .await
            .error(404),
        "Device not found"
    );
}

#[tokio::test]
async fn i14_i15_wrong_groups_and_devices_are_refused() {
    let rig = Rig::new();
    rig.fleet(&[json!({})]).await;
    let path = format!("{DEVICES}/{}/group", id(1));
    for (body, text) in [
        (json!({"group": "a b"}), "Group name can only contain"),
        (json!({"group": ""}), "Group name cannot be blank"),
        (json!({}), "Group name cannot be blank"),
        (
            json!({"group": "x".repeat(1025)}),
            "Group name can at most have 1024 characters",
        ),
        (json!({"group": 5}), "failed to decode device group data"),
        (json!({"group": null}), "failed to decode device group data"),
    ] {
        let error = rig.user(Method::PUT, &path, Some(body)).await.error(400);
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(
        rig.user(Method::PUT, &path, None).await.error(400),
        "failed to decode device group data: JSON payload is empty"
    );
    let unknown = format!("{DEVICES}/{}/group", id(9));
    assert_eq!(
        rig.user(Method::PUT, &unknown, Some(json!({"group": "g"})))
            .await
            .error(404),
        "Device not found"
    );
}

#[tokio::test]
async fn groups_are_listed_in_order_and_by_status() {
    let rig = Rig::new();
    rig.fleet(&[json!({}), json!({}), json!({})]).await;
    rig.accept(&id(4), json!({"mac": "m4"}), "pending", 1).await;
    for (number, group) in [(1, "b"), (2, "a"), (3, "b"), (4, "c")] {
        put_group(&rig, number, group).await;
    }
    assert_eq!(rig.get(GROUPS).await.json(), json!(["a", "b", "c"]));
    assert_eq!(
        rig.get(&format!("{GROUPS}?status=accepted")).await.json(),
        json!(["a", "b"])
    );
    assert_eq!(
        rig.get(&format!("{GROUPS}?status=rejected")).await.json(),
        json!([])
    );
}

#[tokio::test]
async fn i16_devices_of_a_group_are_paged() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 5]).await;
    for number in [1, 2, 3, 5] {
        put_group(&rig, number, "g").await;
    }
    let path = format!("{GROUPS}/g/devices");
    let all = rig.get(&path).await.ok(200);
    assert_eq!(all.json(), json!([id(1), id(2), id(3), id(5)]));
    assert_eq!(all.total(), 4);
    let page = rig.get(&format!("{path}?page=2&per_page=3")).await.ok(200);
    assert_eq!(page.json(), json!([id(5)]));
    assert!(
        page.links().contains("prev") && !page.links().contains("next"),
        "{}",
        page.links()
    );
    assert_eq!(
        rig.get(&format!("{path}?page=3&per_page=3"))
            .await
            .ok(200)
            .json(),
        json!([])
    );
    assert_eq!(
        rig.get(&format!("{GROUPS}/h/devices")).await.error(404),
        "group not found"
    );
    rig.get(&format!("{path}?page=0")).await.error(400);
}

#[tokio::test]
async fn i17_i18_lists_of_devices_join_and_leave() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 3]).await;
    put_group(&rig, 1, "g").await;
    let path = format!("{GROUPS}/g/devices");
    let patch = async |body| rig.user(Method::PATCH, &path, Some(body)).await;
    assert_eq!(
        patch(json!([])).await.error(400),
        "no device IDs present in payload"
    );
    assert!(
        patch(json!({}))
            .await
            .error(400)
            .starts_with("invalid payload schema")
    );
    assert!(
        patch(json!([1]))
            .await
            .error(400)
            .starts_with("invalid payload schema")
    );
    rig.user(
        Method::PATCH,
        &format!("{GROUPS}/a%20b/devices"),
        Some(json!([id(1)])),
    )
    .await
    .error(400);
    assert_eq!(
        patch(json!([id(9)])).await.ok(200).json(),
        json!({"updated_count": 0, "matched_count": 0})
    );
    let update = patch(json!([id(1), id(2), id(3), id(9), id(2)]))
        .await
        .ok(200);
    assert_eq!(
        update.json(),
        json!({"updated_count": 2, "matched_count": 3})
    );
    let remove = async |body| rig.user(Method::DELETE, &path, Some(body)).await;
    assert_eq!(
        remove(json!([])).await.error(400),
        "no device IDs present in payload"
    );
    put_group(&rig, 3, "h").await;
    let removed = remove(json!([id(2), id(3), id(9)])).await.ok(200).json();
    assert_eq!(removed["updated_count"], 1);
    assert_eq!(rig.get(&path).await.json(), json!([id(1)]));
    assert_eq!(
        rig.get(&format!("{GROUPS}/h/devices")).await.json(),
        json!([id(3)])
    );
}

#[tokio::test]
async fn long_lists_and_whole_groups() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 3]).await;
    let ids: Vec<String> = (1..=20_000).map(id).collect();
    let update = rig
        .user(
            Method::PATCH,
            &format!("{GROUPS}/g/devices"),
            Some(json!(ids)),
        )
        .await
        .ok(200);
    assert_eq!(
        update.json(),
        json!({"updated_count": 3, "matched_count": 3})
    );
    let dissolved = rig
        .user(Method::DELETE, &format!("{GROUPS}/g"), None)
        .await
        .ok(200);
    assert_eq!(dissolved.json()["updated_count"], 3);
    assert_eq!(rig.get(GROUPS).await.json(), json!([]));
}

#[tokio::test]
async fn deployments_see_accepted_devices_of_a_group() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 3]).await;
    rig.accept(&id(4), json!({"mac": "m4"}), "rejected", 1)
        .await;
    for number in [1, 3, 4] {
        put_group(&rig, number, "g").await;
    }
    let tenant = TenantId::default();
    let mut group = rig.inventory.devices_in_group(&tenant, "g").await.unwrap();
    group.sort();
    assert_eq!(group, [id(1), id(3)]);
    assert_eq!(
        rig.inventory.accepted_devices(&tenant).await.unwrap().len(),
        3
    );
    assert!(
        rig.inventory
            .devices_in_group(&tenant, "h")
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        rig.inventory
            .accepted_devices(&TenantId::new("other"))
            .await
            .unwrap()
            .is_empty()
    );
}
