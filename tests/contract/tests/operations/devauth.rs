use ambidex_harness::flow;
use ambidex_test_contract::{Call, DeviceKey, Tenant, World};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::complete;

const NOBODY: &str = "6f4a1c5e-0d5e-4b7c-9f51-6f6d2a2b3c4d";

#[test]
fn device_authentication_answers_as_documented() {
    flow("contract-devauth", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        requests(&world, &tenant).await?;
        preauthorised(&world, &tenant).await?;
        admission(&world, &tenant).await?;
        lists(&world, &tenant).await?;
        internal(&world, &tenant).await?;
        complete(
            &world,
            &["devauth_"],
            &[
                (
                    "devauth_internal_get_device_limit",
                    400,
                    "the path of the document names the one limit that exists",
                ),
                (
                    "devauth_internal_verify_jwt",
                    400,
                    "a bearer token that is none is 401: clients know no other answer",
                ),
                (
                    "devauth_internal_verify_jwt",
                    403,
                    "an expired token needs a clock that the test moves: server/devauth/tests",
                ),
            ],
        );
        Ok(())
    });
}

async fn requests(world: &World, tenant: &Tenant) -> Result<()> {
    let name = "devauth_device_authenticate_device";
    let key = DeviceKey::new("aa:01");
    world.authenticate(tenant, &key, 401).await?;
    let (body, signature) = key.request(Some(&tenant.token));
    let unsigned = Call::new(name).raw("application/json", body);
    world.call(unsigned, 400).await?;
    let stranger = DeviceKey::new("aa:02").request(Some(&tenant.token)).0;
    let forged = Call::new(name)
        .header("X-MEN-Signature", &signature)
        .raw("application/json", stranger);
    world.call(forged, 401).await?;
    for body in [
        json!({"pubkey": key.public_pem()}),
        json!({"id_data": "{}"}),
        json!({"id_data": "[]", "pubkey": key.public_pem()}),
        json!({"id_data": "{\"mac\":\"x\"}", "pubkey": "garbage"}),
        json!([]),
    ] {
        let call = Call::new(name)
            .header("X-MEN-Signature", &signature)
            .json(body);
        world.call(call, 400).await?;
    }
    Ok(())
}

async fn preauthorised(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let key = DeviceKey::new("bb:01");
    let body = json!({"identity_data": key.identity, "pubkey": key.public_pem()});
    let made = world
        .call(by("devauth_preauthorize").json(body.clone()), 201)
        .await?;
    let known = world
        .call(by("devauth_preauthorize").json(body), 409)
        .await?;
    assert_eq!(known.json()["id"], made.created(), "409 shows the device");
    world
        .call(by("devauth_preauthorize").json(json!({"pubkey": "x"})), 400)
        .await?;
    let token = world.authenticate(tenant, &key, 200).await?.text();
    let device = shown(world, tenant, &made.created()).await?;
    assert_eq!(device["status"], "accepted");

    // A token is revoked by its id, which is the id of the authentication set.
    let set = device["auth_sets"][0]["id"]
        .as_str()
        .context("no set")?
        .to_owned();
    let poll = || {
        Call::new("deployments_device_check_update")
            .query("artifact_name", "a")
            .query("device_type", "t")
            .by(&token)
    };
    world.call(poll(), 204).await?;
    world
        .call(by("devauth_revoke_api_token").at("id", &set), 204)
        .await?;
    world.call(poll(), 401).await?;
    world
        .call(by("devauth_revoke_api_token").at("id", NOBODY), 404)
        .await?;
    world
        .call(
            by("devauth_decommission_device").at("id", made.created()),
            204,
        )
        .await?;
    world
        .call(
            by("devauth_decommission_device").at("id", made.created()),
            404,
        )
        .await?;
    Ok(())
}

async fn shown(world: &World, tenant: &Tenant, id: &str) -> Result<Value> {
    let call = Call::new("devauth_get_device")
        .at("id", id)
        .by(&tenant.user);
    Ok(world.call(call, 200).await?.json())
}

/// The pending device with this identity, and its one authentication set.
async fn pending(world: &World, tenant: &Tenant, key: &DeviceKey) -> Result<(String, String)> {
    world.authenticate(tenant, key, 401).await?;
    let list = Call::new("devauth_list_devices")
        .query("status", "pending")
        .by(&tenant.user);
    let list = world.call(list, 200).await?.json();
    let device = list
        .as_array()
        .and_then(|list| list.iter().find(|d| d["identity_data"] == key.identity))
        .context("the device is not pending")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok((
        text(&device["id"]).context("no id")?,
        text(&device["auth_sets"][0]["id"]).context("no set")?,
    ))
}

async fn admission(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let (first, second) = (DeviceKey::new("cc:01"), DeviceKey::new("cc:02"));
    let (device, set) = pending(world, tenant, &first).await?;
    let (other, other_set) = pending(world, tenant, &second).await?;
    let put = |device: &str, set: &str, status: &str| {
        by("devauth_set_authentication_status")
            .at("id", device)
            .at("aid", set)
            .json(json!({ "status": status }))
    };
    world.call(put(&device, &set, "accepted"), 204).await?;
    world.call(put(&device, &set, "foo"), 400).await?;
    world.call(put(&device, NOBODY, "accepted"), 404).await?;
    world
        .call(put(&device, &other_set, "accepted"), 400)
        .await?;

    let limit = Call::new("devauth_internal_update_device_limit")
        .at("tenant_id", &tenant.id)
        .json(json!({"limit": 1}));
    world.call(limit, 204).await?;
    world.call(put(&other, &other_set, "accepted"), 422).await?;
    let limit = world.call(by("devauth_get_device_limit"), 200).await?;
    assert_eq!(limit.json(), json!({"limit": 1}));
    let limit = Call::new("devauth_internal_clear_device_limit").at("tenant_id", &tenant.id);
    world.call(limit, 204).await?;
    world.call(put(&other, &other_set, "accepted"), 204).await?;

    let status = |set: &str| {
        by("devauth_get_authentication_status")
            .at("id", &device)
            .at("aid", set)
    };
    let answer = world.call(status(&set), 200).await?;
    assert_eq!(answer.json(), json!({"status": "accepted"}));
    world.call(status(NOBODY), 404).await?;
    let remove = |set: &str| {
        by("devauth_reject_authentication")
            .at("id", &device)
            .at("aid", set)
    };
    world.call(remove(NOBODY), 404).await?;
    world.call(remove(&set), 204).await?;
    assert_eq!(shown(world, tenant, &device).await?["status"], "noauth");
    world
        .call(by("devauth_get_device").at("id", NOBODY), 404)
        .await?;
    Ok(())
}

async fn lists(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    world
        .call(by("devauth_list_devices").query("status", "bad"), 400)
        .await?;
    world
        .call(by("devauth_list_devices").query("per_page", "501"), 400)
        .await?;
    let search = |body: Value| by("devauth_search_devices").json(body);
    let found = world
        .call(search(json!({"status": ["accepted", "noauth"]})), 200)
        .await?;
    assert_eq!(found.json().as_array().map(Vec::len), Some(2));
    world.call(search(json!({"status": 5})), 400).await?;
    let count = |status: &str| by("devauth_count_devices").query("status", status);
    let counted = world.call(count("noauth"), 200).await?;
    assert_eq!(counted.json(), json!({"count": 1}));
    world.call(count("bad"), 400).await?;
    Ok(())
}

async fn internal(world: &World, tenant: &Tenant) -> Result<()> {
    let id = &tenant.id;
    world
        .call(Call::new("devauth_internal_check_liveliness"), 204)
        .await?;
    world
        .call(Call::new("devauth_internal_check_health"), 204)
        .await?;
    let create = Call::new("devauth_internal_create_tenant");
    world
        .call(create.json(json!({"tenant_id": "t9"})), 201)
        .await?;
    let create = Call::new("devauth_internal_create_tenant");
    world
        .call(create.json(json!({"tenant_id": ""})), 400)
        .await?;

    let (device, token) = world.device(tenant, &DeviceKey::new("dd:01")).await?;
    let verify = |token: &str| {
        Call::new("devauth_internal_verify_jwt")
            .header(
                "X-Original-URI",
                "/api/devices/v1/deployments/device/deployments/next",
            )
            .header("X-Original-Method", "GET")
            .by(token)
    };
    world.call(verify(&token), 200).await?;
    world.call(verify(&tenant.user), 401).await?;
    let revoke = || Call::new("devauth_internal_revoke_device_tokens");
    world
        .call(
            revoke().query("tenant_id", id).query("device_id", &device),
            204,
        )
        .await?;
    world.call(verify(&token), 401).await?;
    world.call(revoke(), 400).await?;

    let limit = |name: &str| Call::new(name).at("tenant_id", id);
    world
        .call(limit("devauth_internal_get_device_limit"), 200)
        .await?;
    world
        .call(
            limit("devauth_internal_update_device_limit").json(json!({"limit": "x"})),
            400,
        )
        .await?;
    let status = |tenant: &str, device: &str| {
        Call::new("devauth_internal_device_status")
            .at("tid", tenant)
            .at("did", device)
    };
    let answer = world.call(status(id, &device), 200).await?;
    assert_eq!(answer.json(), json!({"status": "accepted"}));
    world.call(status(id, NOBODY), 404).await?;
    world.call(status(id, ""), 400).await?;
    let list = |name: &str| Call::new(name).at("tid", id);
    for name in [
        "devauth_internal_list_devices",
        "devauth_internal_count_devices",
    ] {
        world
            .call(list(name).query("status", "accepted"), 200)
            .await?;
        world.call(list(name).query("status", "bad"), 400).await?;
    }
    // Unsupported limits share the path of the supported one; the document names that one only.
    let answer = world
        .send(limit("devauth_internal_get_device_limit").query("x", "y"))
        .await?;
    assert_eq!(answer.status, 200);
    Ok(())
}
