use ambidex_harness::flow;
use ambidex_test_contract::{Call, DeviceKey, Tenant, World};
use anyhow::Result;
use serde_json::{Value, json};

use super::complete;

const NOBODY: &str = "6f4a1c5e-0d5e-4b7c-9f51-6f6d2a2b3c4d";

#[test]
fn inventory_answers_as_documented() {
    flow("contract-inventory", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let (device, token) = world.device(&tenant, &DeviceKey::new("aa:01")).await?;
        attributes(&world, &token).await?;
        devices(&world, &tenant, &device).await?;
        groups(&world, &tenant, &device).await?;
        filters(&world, &tenant, &device).await?;
        internal(&world, &tenant).await?;
        complete(
            &world,
            &["inventory_"],
            &[
                (
                    "inventory_get_device_group",
                    400,
                    "a device id may be any text, so none is malformed",
                ),
                (
                    "inventory_add_devices_to_group",
                    404,
                    "ids that do not exist count as not matched",
                ),
                (
                    "inventory_remove_devices_from_group",
                    404,
                    "ids that do not exist count as not updated",
                ),
            ],
        );
        Ok(())
    });
}

async fn attributes(world: &World, token: &str) -> Result<()> {
    for name in [
        "inventory_device_assign_attributes",
        "inventory_device_replace_attributes",
    ] {
        let put = |body: Value| Call::new(name).by(token).json(body);
        let good = json!([
            {"name": "ip", "value": "1.2.3.4", "description": "address"},
            {"name": "mem", "value": 512},
            {"name": "tags", "value": ["a", "b"]},
            {"name": "a.dotted$name", "value": [1, 2.5]},
        ]);
        world.call(put(good), 200).await?;
        for bad in [
            json!([{"name": "x", "value": true}]),
            json!([{"name": "x"}]),
            json!([{"name": "x", "value": ["a", 1]}]),
            json!([{"name": "", "value": "a"}]),
            json!({"name": "x", "value": "a"}),
        ] {
            world.call(put(bad), 400).await?;
        }
    }
    Ok(())
}

async fn devices(world: &World, tenant: &Tenant, device: &str) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let list = || by("inventory_list_device_inventories");
    let answer = world
        .call(list().query("mem", "eq:512").query("sort", "ip:asc"), 200)
        .await?;
    assert_eq!(answer.json().as_array().map(Vec::len), Some(1));
    assert_eq!(answer.headers["x-total-count"], "1");
    world.call(list().query("sort", "ip:up"), 400).await?;
    world.call(list().query("has_group", "maybe"), 400).await?;
    let get = |id: &str| by("inventory_get_device_inventory").at("id", id);
    let shown = world.call(get(device), 200).await?.json();
    let names: Vec<&str> = shown["attributes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|attribute| attribute["name"].as_str())
        .collect();
    assert!(names.contains(&"a.dotted$name"), "{names:?}");
    world.call(get(NOBODY), 404).await?;
    for id in [device, NOBODY] {
        world
            .call(by("inventory_delete_device_inventory").at("id", id), 204)
            .await?;
    }
    Ok(())
}

async fn groups(world: &World, tenant: &Tenant, device: &str) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let assign = |id: &str, group: Value| {
        by("inventory_assign_group")
            .at("id", id)
            .json(json!({ "group": group }))
    };
    world.call(assign(device, json!("lab")), 204).await?;
    world.call(assign(device, json!("a b")), 400).await?;
    world.call(assign(NOBODY, json!("lab")), 404).await?;
    let group = |id: &str| by("inventory_get_device_group").at("id", id);
    let answer = world.call(group(device), 200).await?;
    assert_eq!(answer.json(), json!({"group": "lab"}));
    world.call(group(NOBODY), 404).await?;
    let all = world.call(by("inventory_list_groups"), 200).await?;
    assert_eq!(all.json(), json!(["lab"]));
    let members = |name: &str| by("inventory_get_devices_in_group").at("name", name);
    let answer = world.call(members("lab"), 200).await?;
    assert_eq!(answer.json(), json!([device]));
    world.call(members("lab").query("page", "0"), 400).await?;
    world.call(members("none"), 404).await?;
    let clear = |name: &str| {
        by("inventory_clear_group")
            .at("id", device)
            .at("name", name)
    };
    world.call(clear("other"), 404).await?;
    world.call(clear("lab"), 204).await?;
    for (name, change) in [
        (
            "inventory_add_devices_to_group",
            json!({"updated_count": 1, "matched_count": 1}),
        ),
        (
            "inventory_remove_devices_from_group",
            json!({"updated_count": 1, "matched_count": 1}),
        ),
    ] {
        let call = |body: Value| by(name).at("name", "lab").json(body);
        let answer = world.call(call(json!([device, NOBODY])), 200).await?;
        assert_eq!(
            answer.json()["updated_count"],
            change["updated_count"],
            "{name}"
        );
        world.call(call(json!([])), 400).await?;
    }
    Ok(())
}

async fn filters(world: &World, tenant: &Tenant, device: &str) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    world
        .call(by("inventory_get_filterable_attributes"), 200)
        .await?;
    let search = |body: Value| by("inventory_search_device_inventories").json(body);
    let term = |kind: &str, value: Value| json!({"scope": "identity", "attribute": "mac", "type": kind, "value": value});
    for (kind, value, count) in [
        ("$eq", json!("aa:01"), 1),
        ("$ne", json!("aa:01"), 0),
        ("$gt", json!("aa"), 1),
        ("$gte", json!("aa:01"), 1),
        ("$lt", json!("aa:01"), 0),
        ("$lte", json!("aa:01"), 1),
        ("$in", json!(["aa:01", "x"]), 1),
        ("$nin", json!(["aa:01"]), 0),
        ("$exists", json!(true), 1),
        ("$regex", json!("aa.*"), 1),
    ] {
        let body = json!({"filters": [term(kind, value)]});
        let answer = world.call(search(body), 200).await?;
        assert_eq!(
            answer.json().as_array().map(Vec::len),
            Some(count),
            "{kind}"
        );
    }
    for bad in [
        json!({"filters": [{"scope": "identity", "attribute": "mac", "value": "x"}]}),
        json!({"filters": [term("$foo", json!("x"))]}),
        json!({"filters": [term("$in", json!("x"))]}),
        json!({"filters": [{"scope": "nowhere", "attribute": "mac", "type": "$eq", "value": "x"}]}),
        json!({"sort": [{"scope": "identity", "attribute": "mac", "order": "up"}]}),
    ] {
        world.call(search(bad), 400).await?;
    }
    let create = |body: Value| by("inventory_create_filter").json(body);
    let good = json!({"name": "mine", "terms": [term("$eq", json!("aa:01"))]});
    let made = world.call(create(good.clone()), 201).await?.created();
    world.call(create(good), 409).await?;
    world
        .call(create(json!({"name": "none", "terms": []})), 400)
        .await?;
    world.call(by("inventory_list_filters"), 200).await?;
    world
        .call(by("inventory_list_filters").query("page", "x"), 400)
        .await?;
    let show = |id: &str| by("inventory_show_filter").at("id", id);
    world.call(show(&made), 200).await?;
    world.call(show(NOBODY), 404).await?;
    let execute = |id: &str| by("inventory_execute_filter").at("id", id);
    let found = world.call(execute(&made), 200).await?;
    assert_eq!(found.json()[0]["id"], device);
    world.call(execute(&made).query("page", "0"), 400).await?;
    world.call(execute(NOBODY), 404).await?;
    let delete = |id: &str| by("inventory_delete_filter").at("id", id);
    world.call(delete(&made), 204).await?;
    world.call(delete(&made), 204).await?;
    world.call(delete("not-an-id"), 400).await?;
    Ok(())
}

async fn internal(world: &World, tenant: &Tenant) -> Result<()> {
    world
        .call(Call::new("inventory_internal_check_liveliness"), 204)
        .await?;
    world
        .call(Call::new("inventory_internal_check_health"), 204)
        .await?;
    let create = |body: Value| Call::new("inventory_internal_create_tenant").json(body);
    world.call(create(json!({"tenant_id": "t9"})), 201).await?;
    world.call(create(json!({})), 400).await?;
    let device = |body: Value| Call::new("inventory_internal_initialize_device").json(body);
    let good =
        json!({"id": "d1", "attributes": [{"name": "a", "value": "b", "scope": "inventory"}]});
    world.call(device(good), 201).await?;
    world.call(device(json!({"attributes": []})), 400).await?;
    let status = |body: Value| {
        Call::new("inventory_internal_update_status_of_devices")
            .at("tenant_id", &tenant.id)
            .at("status", "accepted")
            .json(body)
    };
    world
        .call(status(json!([{"id": "d2", "revision": 5}])), 200)
        .await?;
    world
        .call(status(json!([{"id": "d2", "revision": 4}])), 409)
        .await?;
    world.call(status(json!({"id": "d2"})), 400).await?;
    let patch = |body: Value| {
        Call::new("inventory_internal_update_inventory_for_a_device")
            .at("tenant_id", &tenant.id)
            .at("device_id", "d2")
            .at("scope", "monitor")
            .json(body)
    };
    world
        .call(patch(json!([{"name": "alerts", "value": 1}])), 200)
        .await?;
    world
        .call(patch(json!([{"name": "alerts", "value": {}}])), 400)
        .await?;
    Ok(())
}
