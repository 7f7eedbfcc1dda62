use ambidex_harness::flow;
use ambidex_test_contract::{Call, PASSWORD, Tenant, World};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::complete;

const NOBODY: &str = "6f4a1c5e-0d5e-4b7c-9f51-6f6d2a2b3c4d";

#[test]
fn user_administration_answers_as_documented() {
    flow("contract-useradm", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        let small = world.tenant("small", "os").await?;
        sessions(&world, &tenant, &small).await?;
        users(&world, &tenant).await?;
        roles(&world, &tenant).await?;
        settings(&world, &tenant).await?;
        internal(&world, &tenant).await?;
        complete(
            &world,
            &["useradm_"],
            &[
                (
                    "useradm_complete_password_reset_request",
                    202,
                    "needs the mail: server/useradm/tests and the mail test of the process",
                ),
                (
                    "useradm_get_2fa_qr_code",
                    200,
                    "needs a verified address: server/useradm/tests",
                ),
                (
                    "useradm_verify_the_2fa_token",
                    202,
                    "needs a verified address: server/useradm/tests",
                ),
                (
                    "useradm_logout",
                    400,
                    "a logout has nothing that could be malformed",
                ),
                (
                    "useradm_internal_list_users",
                    401,
                    "the internal listener asks for no credentials",
                ),
            ],
        );
        Ok(())
    });
}

async fn sessions(world: &World, tenant: &Tenant, small: &Tenant) -> Result<()> {
    let login = |password: &str| Call::new("useradm_login").basic(&tenant.email, password);
    world.call(login("wrong password"), 401).await?;
    let broken = login(PASSWORD).raw("application/json", "{");
    world.call(broken, 400).await?;
    let session = world.login(&tenant.email).await?;
    world
        .call(Call::new("useradm_logout").by(&session), 202)
        .await?;
    world
        .call(Call::new("useradm_logout").by(&session), 401)
        .await?;
    let plan = |token: &str, plan: &str| {
        Call::new("useradm_verify_plan")
            .header("X-Mender-Required-Minimal-Plan", plan)
            .by(token)
    };
    world.call(plan(&tenant.user, "enterprise"), 202).await?;
    world.call(plan(&small.user, "enterprise"), 403).await?;
    world.call(plan("x.y.z", "os"), 401).await?;
    let start = |body: Value| Call::new("useradm_initiate_password_reset_request").json(body);
    world
        .call(start(json!({"email": "nobody@nowhere.example"})), 202)
        .await?;
    world.call(start(json!({"email": 5})), 400).await?;
    let complete = Call::new("useradm_complete_password_reset_request");
    let body = json!({"secret": "unknown", "password": PASSWORD});
    world.call(complete.json(body), 400).await?;
    Ok(())
}

async fn users(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let create = |body: Value| by("useradm_create_user").json(body);
    let good = json!({"email": "second@alpha.example", "password": PASSWORD});
    let id = world.call(create(good.clone()), 201).await?.created();
    world.call(create(good), 422).await?;
    world
        .call(
            create(json!({"email": "no address", "password": PASSWORD})),
            400,
        )
        .await?;
    world
        .call(
            create(json!({"email": "third@alpha.example", "password": "1234567"})),
            422,
        )
        .await?;
    let list = world.call(by("useradm_list_users"), 200).await?;
    assert_eq!(list.json().as_array().map(Vec::len), Some(2));
    let show = |id: &str| by("useradm_show_user").at("id", id);
    assert_eq!(
        world.call(show("me"), 200).await?.json()["email"],
        tenant.email
    );
    world.call(show(&id), 200).await?;
    world.call(show(NOBODY), 404).await?;
    let update = |id: &str, body: Value| by("useradm_update_user").at("id", id).json(body);
    world
        .call(update(&id, json!({"email": "renamed@alpha.example"})), 204)
        .await?;
    world.call(update(&id, json!({})), 400).await?;
    world
        .call(update(NOBODY, json!({"email": "x@alpha.example"})), 404)
        .await?;
    world
        .call(update(&id, json!({"email": tenant.email})), 422)
        .await?;
    for id in [id.as_str(), NOBODY] {
        world
            .call(by("useradm_remove_user").at("id", id), 204)
            .await?;
    }
    Ok(())
}

async fn roles(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let role = json!({
        "name": "readers",
        "description": "may look",
        "permissions": [{"action": "http", "object": {"type": "GET", "value": "^/api/management/"}}]
    });
    let create = |body: Value| by("useradm_create_role").json(body);
    world.call(create(role.clone()), 201).await?;
    world.call(create(json!({"permissions": []})), 400).await?;
    let list = world.call(by("useradm_list_roles"), 200).await?.json();
    let names: Vec<&str> = list
        .as_array()
        .context("no list of roles")?
        .iter()
        .filter_map(|role| role["name"].as_str())
        .collect();
    assert!(names.contains(&"readers"), "{names:?}");
    assert!(names.contains(&"RBAC_ROLE_PERMIT_ALL"), "{names:?}");
    let show = |id: &str| by("useradm_show_role").at("id", id);
    assert_eq!(world.call(show("readers"), 200).await?.json(), role);
    world.call(show("nobody"), 404).await?;
    let update = |id: &str, body: Value| by("useradm_update_role").at("id", id).json(body);
    world.call(update("readers", role.clone()), 202).await?;
    world
        .call(
            update(
                "readers",
                json!({"name": "readers", "permissions": [{"action": "x"}]}),
            ),
            400,
        )
        .await?;
    let mut unknown = role;
    unknown["name"] = json!("nobody");
    world.call(update("nobody", unknown), 404).await?;
    world
        .call(by("useradm_delete_role").at("id", "readers"), 204)
        .await?;
    Ok(())
}

async fn settings(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let empty = world.call(by("useradm_show_user_settings"), 200).await?;
    assert_eq!(empty.json(), json!({}));
    let save = |body: Value| by("useradm_update_user_settings").json(body);
    let settings = json!({"id_attribute": "mac", "unknown": [1, {"a": null}]});
    world.call(save(settings.clone()), 201).await?;
    world.call(save(json!([1])), 400).await?;
    let shown = world.call(by("useradm_show_user_settings"), 200).await?;
    assert_eq!(shown.json(), settings);
    let verify = |body: Value| by("useradm_verify_the_2fa_token").json(body);
    world.call(verify(json!({"token2fa": 5})), 400).await?;
    Ok(())
}

async fn internal(world: &World, tenant: &Tenant) -> Result<()> {
    for name in [
        "useradm_internal_check_liveliness",
        "useradm_internal_check_health",
    ] {
        world.call(Call::new(name), 204).await?;
    }
    let verify = |token: &str| {
        Call::new("useradm_internal_verify_jwt")
            .header("X-Original-Method", "GET")
            .by(token)
    };
    let uri = "/api/management/v1/useradm/users";
    world
        .call(verify(&tenant.user).header("X-Original-URI", uri), 200)
        .await?;
    world.call(verify(&tenant.user), 400).await?;
    world
        .call(verify("x.y.z").header("X-Original-URI", uri), 401)
        .await?;
    let role = json!({"name": "nothing", "permissions": [
        {"action": "http", "object": {"type": "GET", "value": "^/nowhere$"}}]});
    let create = Call::new("useradm_create_role").by(&tenant.user);
    world.call(create.json(role), 201).await?;
    let user = json!({"email": "barred@alpha.example", "password": PASSWORD, "roles": ["nothing"]});
    let create = Call::new("useradm_create_user").by(&tenant.user);
    world.call(create.json(user), 201).await?;
    let barred = world.login("barred@alpha.example").await?;
    world
        .call(verify(&barred).header("X-Original-URI", uri), 403)
        .await?;

    let new = |body: Value| Call::new("useradm_internal_create_tenant").json(body);
    world.call(new(json!({"tenant_id": "t9"})), 201).await?;
    world.call(new(json!({"tenant_id": ""})), 400).await?;
    let create = |tenant: &str, body: Value| {
        Call::new("useradm_internal_create_user")
            .at("tenant_id", tenant)
            .json(body)
    };
    let user = json!({"email": "inner@alpha.example", "password": PASSWORD});
    world.call(create(&tenant.id, user.clone()), 201).await?;
    world.call(create(&tenant.id, user.clone()), 422).await?;
    world
        .call(create(&tenant.id, json!({"email": "x@alpha.example"})), 400)
        .await?;
    let other = json!({"email": "other@nowhere.example", "password": PASSWORD});
    world
        .call(create("507f191e810c19729de860ea", other), 404)
        .await?;
    let list = Call::new("useradm_internal_list_users").at("tenant_id", &tenant.id);
    world.call(list, 200).await?;
    let revoke = || Call::new("useradm_internal_revoke_user_tokens");
    world.call(revoke(), 400).await?;
    world
        .call(revoke().query("tenant_id", &tenant.id), 204)
        .await?;
    world
        .call(Call::new("useradm_list_users").by(&tenant.user), 401)
        .await?;
    Ok(())
}
