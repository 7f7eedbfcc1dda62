use ambidex_access::TenantId;
use ambidex_wire::management::inventory::FilterPredicate;
use http::Method;
use serde_json::{Value, json};

use crate::rig::{DEVICES, FILTERS, Rig, attributes, id};

fn filter(scope: &str, attribute: &str, operator: &str, value: Value) -> Value {
    json!({"scope": scope, "attribute": attribute, "type": operator, "value": value})
}

#[tokio::test]
async fn i20_an_empty_search_lists_all() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 25]).await;
    let answer = rig.search(json!({})).await.ok(200);
    assert_eq!((answer.ids().len(), answer.total()), (20, 25));
    assert!(answer.headers.get("link").is_none());
    let page = rig.search(json!({"page": 2, "per_page": 10})).await.ok(200);
    assert_eq!(
        (page.ids(), page.total()),
        ((11..=20).map(id).collect(), 25)
    );
    let lenient = rig.search(json!({"page": 0, "per_page": -5})).await.ok(200);
    assert_eq!(lenient.ids().len(), 20);
    assert_eq!(
        rig.user(Method::POST, &format!("{FILTERS}/search"), None)
            .await
            .ok(200)
            .total(),
        25
    );
    rig.search(json!({"per_page": 501})).await.error(400);
    rig.search(json!({"page": i64::MAX})).await.error(400);
    assert_eq!(rig.search(json!({"page": 99})).await.ok(200).text, "[]");
}

#[tokio::test]
async fn i21_to_i25_conditions_on_attributes() {
    let rig = Rig::new();
    rig.fleet(&[
        json!({"a": 1}),
        json!({"a": "1"}),
        json!({"a": "abc"}),
        json!({"b": 1}),
        json!({"a": "xab"}),
        json!({"a": ["abc", "1"]}),
        json!({"a": [1, 7]}),
    ])
    .await;
    let a =
        async |operator: &str, value: Value| rig.matching("inventory", "a", operator, value).await;
    assert_eq!(a("$eq", json!(1)).await, [1, 7]);
    assert_eq!(a("$eq", json!("1")).await, [2, 6]);
    assert_eq!(a("$eq", json!(["abc", "1"])).await, [6]);
    assert_eq!(
        a("$eq", json!("ABC")).await,
        Vec::<u128>::new(),
        "the rough sieve is not the answer"
    );
    assert_eq!(a("$ne", json!(1)).await, [2, 3, 4, 5, 6]);
    assert_eq!(a("$nin", json!(["1", 1])).await, [3, 4, 5]);
    assert_eq!(a("$in", json!(["xab", 7])).await, [5, 7]);
    assert_eq!(a("$in", json!([])).await, Vec::<u128>::new());
    assert_eq!(a("$exists", json!(0)).await, [4]);
    assert_eq!(a("$exists", json!(false)).await, [4]);
    assert_eq!(a("$exists", json!(1)).await.len(), 6);
    assert_eq!(a("$regex", json!("ab")).await, [3, 6]);
    assert_eq!(a("$regex", json!("/AB/i")).await, [3, 6]);
    assert_eq!(a("$regex", json!(".*ab")).await, [3, 5, 6]);
    assert_eq!(a("$regex", json!("(")).await, Vec::<u128>::new());
    assert_eq!(a("$gt", json!(1)).await, [7]);
    assert_eq!(a("$gte", json!(1)).await, [1, 7]);
    assert_eq!(a("$lt", json!("b")).await, [2, 3, 6]);
    assert_eq!(a("$lte", json!(0)).await, Vec::<u128>::new());
}

#[tokio::test]
async fn conditions_on_status_group_id_and_times() {
    let rig = Rig::new();
    rig.fleet(&vec![json!({}); 3]).await;
    rig.accept(&id(4), json!({"mac": "m4"}), "pending", 1).await;
    rig.device(&id(5), Method::PATCH, json!([])).await.ok(200);
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(2)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    let status = async |operator: &str, value: Value| {
        rig.matching("identity", "status", operator, value).await
    };
    assert_eq!(status("$eq", json!("accepted")).await, [1, 2, 3]);
    assert_eq!(
        status("$ne", json!("accepted")).await,
        [4, 5],
        "devices without a status are not accepted either"
    );
    assert_eq!(
        status("$in", json!(["pending", "accepted"])).await,
        [1, 2, 3, 4]
    );
    assert_eq!(status("$nin", json!(["accepted"])).await, [4, 5]);
    assert_eq!(status("$nin", json!([5])).await, [1, 2, 3, 4, 5]);
    assert_eq!(status("$exists", json!(false)).await, [5]);
    assert_eq!(status("$exists", json!(true)).await, [1, 2, 3, 4]);
    assert_eq!(status("$eq", json!(5)).await, Vec::<u128>::new());
    assert_eq!(status("$eq", json!("")).await, Vec::<u128>::new());
    assert_eq!(status("$in", json!(["", 1])).await, Vec::<u128>::new());
    assert_eq!(status("$regex", json!("pend")).await, [4]);
    let group =
        async |operator: &str, value: Value| rig.matching("system", "group", operator, value).await;
    assert_eq!(group("$eq", json!("g")).await, [2]);
    assert_eq!(group("$exists", json!(0)).await, [1, 3, 4, 5]);
    assert_eq!(group("$ne", json!("g")).await, [1, 3, 4, 5]);
    assert_eq!(
        rig.matching("identity", "id", "$eq", json!(id(3))).await,
        [3]
    );
    assert_eq!(
        rig.matching("identity", "id", "$in", json!([id(3), id(1), "x"]))
            .await,
        [1, 3]
    );
    assert_eq!(
        rig.matching("identity", "id", "$ne", json!(id(3))).await,
        [1, 2, 4, 5]
    );
    assert_eq!(
        rig.matching("identity", "mac", "$eq", json!("m2")).await,
        [2]
    );
    assert_eq!(
        rig.matching(
            "system",
            "created_ts",
            "$gt",
            json!("2023-11-14T22:13:20.001Z")
        )
        .await,
        [2, 3, 4, 5]
    );
    assert_eq!(
        rig.matching("system", "updated_ts", "$lt", json!("2030-01-01T00:00:00Z"))
            .await
            .len(),
        5
    );
    rig.inventory
        .record_check_ins(&TenantId::default(), &[(id(3), 1_700_000_005_000)])
        .await
        .unwrap();
    assert_eq!(
        rig.matching("system", "check_in_time", "$exists", json!(true))
            .await,
        [3]
    );
    assert_eq!(
        rig.matching(
            "system",
            "check_in_time",
            "$gte",
            json!("2023-11-14T22:13:25Z")
        )
        .await,
        [3]
    );
}

#[tokio::test]
async fn conditions_hold_together_and_combine_with_ids() {
    let rig = Rig::new();
    rig.fleet(&[
        json!({"a": 1, "b": "x"}),
        json!({"a": 1, "b": "y"}),
        json!({"a": 2, "b": "x"}),
    ])
    .await;
    let both = json!([
        filter("inventory", "a", "$eq", json!(1)),
        filter("inventory", "b", "$eq", json!("x"))
    ]);
    assert_eq!(rig.search(json!({"filters": both})).await.ids(), [id(1)]);
    let same = json!([
        filter("inventory", "a", "$gte", json!(1)),
        filter("inventory", "a", "$lt", json!(2))
    ]);
    assert_eq!(
        rig.search(json!({"filters": same})).await.ids(),
        [id(1), id(2)]
    );
    let among = json!({"device_ids": [id(2), id(3), "x"], "filters": [filter("inventory", "b", "$eq", json!("x"))]});
    assert_eq!(rig.search(among).await.ids(), [id(3)]);
    assert_eq!(rig.search(json!({"device_ids": [id(2)]})).await.total(), 1);
    let many: Vec<String> = (0..10_001).map(id).collect();
    rig.search(json!({"device_ids": many})).await.error(400);
}

#[tokio::test]
async fn i26_wrong_searches_are_refused() {
    let rig = Rig::new();
    for (condition, text) in [
        (
            json!({"scope": "inventory", "attribute": "a", "value": 1}),
            "type: cannot be blank.",
        ),
        (
            json!({"scope": "inventory", "attribute": "a", "type": "$foo", "value": 1}),
            "type: must be a valid value.",
        ),
        (
            json!({"scope": "foo", "attribute": "a", "type": "$eq", "value": 1}),
            "scope: must be one of",
        ),
        (
            json!({"attribute": "a", "type": "$eq", "value": 1}),
            "scope: cannot be blank.",
        ),
        (
            json!({"scope": "inventory", "type": "$eq", "value": 1}),
            "attribute: cannot be blank.",
        ),
        (
            json!({"scope": "inventory", "attribute": "a", "type": "$eq"}),
            "value: is required.",
        ),
        (
            json!({"scope": "inventory", "attribute": "a", "type": "$in", "value": "a"}),
            "BadValue",
        ),
        (
            json!({"scope": "inventory", "attribute": "a", "type": "$nin", "value": 5}),
            "BadValue",
        ),
        (json!({"scope": 5}), "failed to decode request body"),
    ] {
        let error = rig.search(json!({"filters": [condition]})).await.error(400);
        assert!(error.contains(text), "{error}");
    }
    for sort in [
        json!({"scope": "inventory", "attribute": "a", "order": "up"}),
        json!({"scope": "inventory", "attribute": "a"}),
        json!({"scope": "x", "attribute": "a", "order": "asc"}),
        json!({"scope": "inventory", "order": "asc"}),
    ] {
        rig.search(json!({"sort": [sort]})).await.error(400);
    }
    rig.search(json!({"attributes": [{"scope": "x", "attribute": "a"}]}))
        .await
        .error(400);
    rig.search(json!({"attributes": [{"scope": "inventory"}]}))
        .await
        .error(400);
    let many = vec![filter("inventory", "a", "$eq", json!(1)); 101];
    rig.search(json!({"filters": many})).await.error(400);
}

#[tokio::test]
async fn i27_only_the_wanted_attributes_are_shown() {
    let rig = Rig::new();
    rig.fleet(&[json!({"a": 1, "b": 2})]).await;
    let wanted = json!([{"scope": "inventory", "attribute": "b"}, {"scope": "identity", "attribute": "status"}, {"scope": "tags", "attribute": "none"}]);
    let device = rig
        .search(json!({"attributes": wanted}))
        .await
        .ok(200)
        .json()[0]
        .clone();
    let shown: Vec<String> = attributes(&device).keys().cloned().collect();
    assert_eq!(shown, ["identity/status", "inventory/b"]);
}

#[tokio::test]
async fn results_are_sorted_and_paged_over_many_slices() {
    let rig = Rig::new();
    // More devices than one slice of a pass, created in an order that has nothing to do with the sort key.
    let devices: Vec<_> = (0..2500_u128)
        .map(|number| ambidex_inventory::FleetDevice {
            id: id(number + 1),
            identity: json!({"n": (number * 7919) % 2500})
                .as_object()
                .unwrap()
                .clone(),
            status: "accepted".into(),
            revision: 1,
        })
        .collect();
    rig.inventory
        .put_fleet_devices(&TenantId::default(), &devices)
        .await
        .unwrap();
    let sort = json!([{"scope": "identity", "attribute": "n", "order": "asc"}]);
    let mut seen = Vec::new();
    for page in 1..=5 {
        let answer = rig
            .search(json!({"sort": sort, "page": page, "per_page": 500}))
            .await
            .ok(200);
        assert_eq!(answer.total(), 2500);
        seen.extend(
            answer
                .json()
                .as_array()
                .unwrap()
                .iter()
                .map(|device| attributes(device)["identity/n"].as_u64().unwrap()),
        );
    }
    assert_eq!(seen, (0..2500).collect::<Vec<u64>>());
    let condition = filter("identity", "n", "$lt", json!(1200));
    let answer = rig
        .search(json!({"filters": [condition], "page": 3, "per_page": 500}))
        .await
        .ok(200);
    assert_eq!((answer.ids().len(), answer.total()), (200, 1200));
    let terms: Vec<FilterPredicate> =
        vec![serde_json::from_value(filter("identity", "n", "$gte", json!(1000))).unwrap()];
    let matching = rig
        .inventory
        .devices_matching(&TenantId::default(), &terms)
        .await
        .unwrap();
    assert_eq!(matching.len(), 1500);
    assert!(
        rig.inventory
            .device_matches(&TenantId::default(), &matching[0], &terms)
            .await
            .unwrap()
    );
    let other = rig.matching("identity", "n", "$eq", json!(5)).await[0];
    assert!(
        !rig.inventory
            .device_matches(&TenantId::default(), &id(other), &terms)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn i19_names_in_use_are_counted() {
    let rig = Rig::new();
    assert_eq!(
        rig.get(&format!("{FILTERS}/attributes"))
            .await
            .ok(200)
            .json(),
        json!([])
    );
    rig.fleet(&[json!({"a": 1, "b": 2}), json!({"a": "x"}), json!({"c": 1})])
        .await;
    rig.user(
        Method::PUT,
        &format!("{DEVICES}/{}/group", id(2)),
        Some(json!({"group": "g"})),
    )
    .await
    .ok(204);
    let names = async || -> Vec<String> {
        let list = rig
            .get(&format!("{FILTERS}/attributes"))
            .await
            .ok(200)
            .json();
        list.as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                format!(
                    "{} {}/{}",
                    entry["count"],
                    entry["scope"].as_str().unwrap(),
                    entry["name"].as_str().unwrap()
                )
            })
            .collect()
    };
    assert_eq!(
        names().await,
        [
            "3 identity/mac",
            "3 identity/status",
            "3 system/created_ts",
            "3 system/updated_ts",
            "2 inventory/a",
            "1 inventory/b",
            "1 inventory/c",
            "1 system/group",
        ]
    );
    rig.device(&id(1), Method::PUT, json!([{"name": "d", "value": 1}]))
        .await
        .ok(200);
    rig.inventory
        .remove_device(&TenantId::default(), &id(3))
        .await
        .unwrap();
    assert_eq!(
        names().await,
        [
            "2 identity/mac",
            "2 identity/status",
            "2 system/created_ts",
            "2 system/updated_ts",
            "1 inventory/a",
            "1 inventory/d",
            "1 system/group",
        ]
    );
}
