use ambidex_harness::flow;
use ambidex_test_contract::{Call, PASSWORD, Tenant, World};
use anyhow::Result;
use serde_json::{Value, json};

use super::complete;

const UNKNOWN: &str = "507f191e810c19729de860ea";

#[test]
fn tenant_administration_answers_as_documented() {
    flow("contract-tenantadm", |scratch| async move {
        let world = World::start(&scratch, &["--multi-tenant", "--self-sign-up"]).await?;
        let tenant = world.tenant("alpha", "enterprise").await?;
        own(&world, &tenant).await?;
        sign_up(&world).await?;
        billing(&world, &tenant).await?;
        internal(&world, &tenant).await?;
        cancelled(&world).await?;
        let provider = "no payment provider is configured, and none is invented";
        let covered = "needs an account in another state: server/tenantadm/tests";
        let robots = "no check against robots is configured";
        complete(
            &world,
            &["tenantadm_"],
            &[
                (
                    "tenantadm_tenant_info",
                    404,
                    "every user of a server of several tenants has one: server/main/tests",
                ),
                ("tenantadm_cancel_account", 409, covered),
                ("tenantadm_cancel_account_upgrade", 400, covered),
                ("tenantadm_cancel_account_upgrade", 202, covered),
                ("tenantadm_complete_account_upgrade", 202, provider),
                ("tenantadm_create_account", 401, robots),
                ("tenantadm_v2_create_account", 401, robots),
                ("tenantadm_create_trial_account", 401, robots),
                ("tenantadm_create_account", 402, provider),
                ("tenantadm_start_account_upgrade", 200, provider),
                ("tenantadm_get_stripe_secret", 200, provider),
                ("tenantadm_init_card_update", 200, provider),
                ("tenantadm_confirm_card_update", 204, provider),
                ("tenantadm_confirm_card_update", 409, provider),
            ],
        );
        Ok(())
    });
}

async fn own(world: &World, tenant: &Tenant) -> Result<()> {
    let info = Call::new("tenantadm_tenant_info").by(&tenant.user);
    let info = world.call(info, 200).await?.json();
    assert_eq!(info["id"], tenant.id);
    assert_eq!(info["tenant_token"], tenant.token);
    Ok(())
}

async fn sign_up(world: &World) -> Result<()> {
    let form = |email: &str| {
        format!(
            "organization=beta&email={email}&password=correct%20horse%20battery&g-recaptcha-response=empty"
        )
    };
    let v1 = |body: String| {
        Call::new("tenantadm_create_account").raw("application/x-www-form-urlencoded", body)
    };
    world.call(v1(form("admin%40beta.example")), 202).await?;
    world.call(v1(form("admin%40beta.example")), 409).await?;
    world.call(v1("organization=x".to_owned()), 400).await?;

    let body = |email: &str| {
        json!({"organization": "gamma", "email": email, "password": PASSWORD,
            "g-recaptcha-response": "empty"})
    };
    let v2 = |body: Value| Call::new("tenantadm_v2_create_account").json(body);
    let made = world
        .call(v2(body("admin@gamma.example")), 200)
        .await?
        .json();
    world.call(v2(body("admin@gamma.example")), 409).await?;
    world.call(v2(json!({"organization": "x"})), 400).await?;
    let id = made["id"].as_str().unwrap_or_default();
    let activate = |id: &str, body: Value| {
        Call::new("tenantadm_activate_account")
            .at("id", id)
            .json(body)
    };
    world
        .call(activate(id, json!({"status": "suspended"})), 400)
        .await?;
    world
        .call(activate(UNKNOWN, json!({"status": "active"})), 404)
        .await?;
    world
        .call(activate(id, json!({"status": "active"})), 202)
        .await?;
    let delete = |id: &str| Call::new("tenantadm_delete_inactive_account").at("id", id);
    world.call(delete(id), 405).await?;
    let made = world
        .call(v2(body("admin@delta.example")), 200)
        .await?
        .json();
    world
        .call(delete(made["id"].as_str().unwrap_or_default()), 204)
        .await?;
    let suspend = Call::new("tenantadm_internal_set_account_status")
        .at("id", id)
        .json(json!({"status": "suspended"}));
    world.call(suspend, 200).await?;
    world
        .call(activate(id, json!({"status": "active"})), 409)
        .await?;

    let trial = |body: Value| Call::new("tenantadm_create_trial_account").json(body);
    world.call(trial(body("admin@trial.example")), 202).await?;
    world.call(trial(body("admin@trial.example")), 409).await?;
    world.call(trial(json!({"organization": "x"})), 400).await?;
    Ok(())
}

async fn billing(world: &World, tenant: &Tenant) -> Result<()> {
    let by = |name: &str| Call::new(name).by(&tenant.user);
    let shown = world
        .call(by("tenantadm_get_billing_information"), 200)
        .await?;
    assert_eq!(shown.json(), json!({}), "no card is invented");
    world.call(by("tenantadm_init_card_update"), 409).await?;
    let confirm = by("tenantadm_confirm_card_update").at("id", "unknown");
    world.call(confirm, 404).await?;
    let secret = world.send(by("tenantadm_get_stripe_secret")).await?;
    assert_eq!(secret.status, 409);
    Ok(())
}

/// A trial: upgraded, its upgrade called off, and at last cancelled.
async fn cancelled(world: &World) -> Result<()> {
    let user = ambidex_harness::wait_for(
        "the login of the trial's first user",
        std::time::Duration::from_secs(10),
        async || Ok(world.login("admin@trial.example").await.ok()),
    )
    .await?;
    let info = Call::new("tenantadm_tenant_info").by(&user);
    let info = world.call(info, 200).await?.json();
    assert_eq!(info["trial"], true);
    let id = info["id"].as_str().unwrap_or_default().to_owned();
    let at = |name: &str| Call::new(name).at("id", &id).by(&user);
    world
        .call(at("tenantadm_start_account_upgrade"), 400)
        .await?;
    let upgrade = |plan: &str| at("tenantadm_complete_account_upgrade").json(json!({"plan": plan}));
    world.call(upgrade("golden"), 400).await?;
    let cancel = world.send(at("tenantadm_cancel_account_upgrade")).await?;
    assert!([202, 400].contains(&cancel.status), "{}", cancel.status);
    let cancel = |call: Call, body: Value| call.json(body);
    let name = "tenantadm_cancel_account";
    world.call(cancel(at(name), json!({})), 400).await?;
    let other = Call::new(name).at("id", UNKNOWN).by(&user);
    world
        .call(cancel(other, json!({"reason": "done"})), 404)
        .await?;
    world
        .call(cancel(at(name), json!({"reason": "done"})), 202)
        .await?;
    Ok(())
}

async fn internal(world: &World, tenant: &Tenant) -> Result<()> {
    for name in [
        "tenantadm_internal_check_liveliness",
        "tenantadm_internal_check_health",
    ] {
        world.call(Call::new(name), 204).await?;
    }
    let verify = || Call::new("tenantadm_internal_verify_jwt");
    let shown = world.call(verify().by(&tenant.token), 200).await?.json();
    assert_eq!(shown["id"], tenant.id);
    world.call(verify().by("x.y.z"), 401).await?;
    world.call(verify(), 400).await?;
    let list = || Call::new("tenantadm_internal_list_tenants");
    let found = world
        .call(list().query("username", &tenant.email), 200)
        .await?;
    assert_eq!(found.json()[0]["id"], tenant.id);
    world.call(list().query("page", "0"), 400).await?;
    let show = |id: &str| Call::new("tenantadm_internal_show_tenant").at("tenant_id", id);
    world.call(show(&tenant.id), 200).await?;
    world.call(show(UNKNOWN), 404).await?;
    let update = |id: &str, body: Value| {
        Call::new("tenantadm_internal_update_tenant")
            .at("tenant_id", id)
            .json(body)
    };
    world
        .call(update(&tenant.id, json!({"name": "alpha 2"})), 204)
        .await?;
    world
        .call(update(&tenant.id, json!({"plan": "golden"})), 400)
        .await?;
    world
        .call(update(UNKNOWN, json!({"name": "x"})), 404)
        .await?;

    let create = |body: Value| Call::new("tenantadm_internal_create_user").json(body);
    let user = json!({"name": "u1@alpha.example", "id": "u1", "tenant_id": tenant.id});
    world.call(create(user.clone()), 201).await?;
    let mut again = user.clone();
    again["id"] = json!("u2");
    world.call(create(again), 422).await?;
    world.call(create(json!({"id": "u3"})), 400).await?;
    let mut lost = user;
    lost["name"] = json!("u4@alpha.example");
    lost["id"] = json!("u4");
    lost["tenant_id"] = json!(UNKNOWN);
    world.call(create(lost), 404).await?;
    let users = || Call::new("tenantadm_internal_list_users");
    world
        .call(users().query("tenant_id", &tenant.id), 200)
        .await?;
    world.call(users().query("page", "0"), 400).await?;
    let at = |name: &str, user: &str| {
        Call::new(name)
            .at("tenant_id", &tenant.id)
            .at("user_id", user)
    };
    let change = |user: &str, body: Value| at("tenantadm_internal_update_user", user).json(body);
    world
        .call(change("u1", json!({"name": "u5@alpha.example"})), 204)
        .await?;
    world.call(change("u1", json!([])), 400).await?;
    world
        .call(change("nobody", json!({"name": "u6@alpha.example"})), 404)
        .await?;
    world
        .call(change("u1", json!({"name": tenant.email})), 422)
        .await?;
    for _ in 0..2 {
        world
            .call(at("tenantadm_internal_delete_user", "u1"), 204)
            .await?;
    }
    let status = |id: &str, body: Value| {
        Call::new("tenantadm_internal_set_account_status")
            .at("id", id)
            .json(body)
    };
    world
        .call(status(UNKNOWN, json!({"status": "active"})), 404)
        .await?;
    world
        .call(status(&tenant.id, json!({"status": "gone"})), 400)
        .await?;
    Ok(())
}
