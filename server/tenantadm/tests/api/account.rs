//! What tenants do with their own account (operations 076 and 082 to 089) and write to the operator.

use std::sync::{Arc, Mutex};

use ambidex_jobs::{AUDIT, Handler, Job, JobError};
use ambidex_kit::BoxFuture;
use ambidex_tenantadm::{Billing, Plan, Settings};
use serde_json::{Value, json};

use crate::rig::{DAY_MS, World, open};

async fn tenant(world: &World, trial: bool) -> (String, String) {
    let created = world
        .tenantadm
        .create("Acme", Plan::Enterprise)
        .await
        .unwrap();
    if trial {
        let path = format!("/tenants/{}", created.id);
        let change = json!({"trial": true, "trial_expiration": "2021-06-01T00:00:00Z"});
        assert_eq!(world.call("PUT", &path, change).await.0, 204);
    }
    world.told();
    let token = world.token(&created.id);
    (created.id, token)
}

#[tokio::test]
async fn every_secured_operation_wants_a_token_first() {
    for settings in [open(), Settings::default()] {
        let world = World::with(settings);
        for (method, path) in [
            ("GET", "v1/tenantadm/user/tenant"),
            ("POST", "v2/tenantadm/tenants/x/cancel"),
            ("POST", "v2/tenantadm/tenants/x/upgrade/start"),
            ("POST", "v2/tenantadm/tenants/x/upgrade/complete"),
            ("POST", "v2/tenantadm/tenants/x/upgrade/cancel"),
            ("POST", "v2/tenantadm/tenants/x/plan"),
            ("GET", "v2/tenantadm/tenants"),
            ("POST", "v2/tenantadm/contact/support"),
            ("GET", "v2/tenantadm/billing"),
            ("POST", "v2/tenantadm/billing/secret"),
            ("POST", "v2/tenantadm/billing/card"),
            ("POST", "v2/tenantadm/billing/card/x/confirm"),
            ("GET", "v2/tenantadm/billing/profile"),
            ("POST", "v2/tenantadm/billing/profile"),
            ("PATCH", "v2/tenantadm/billing/profile"),
            ("GET", "v2/tenantadm/billing/subscription"),
            ("POST", "v2/tenantadm/billing/subscription"),
            ("POST", "v2/tenantadm/billing/subscription/invoices/preview"),
        ] {
            assert_eq!(
                world.manage(method, path, "", "").await.0,
                401,
                "{method} {path}"
            );
            assert_eq!(
                world.manage(method, path, "nonsense", "").await.0,
                401,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn the_own_tenant_is_shown_with_its_token() {
    let world = World::new();
    let (id, token) = tenant(&world, false).await;
    let (status, own) = world
        .manage("GET", "v1/tenantadm/user/tenant", &token, "")
        .await;
    assert_eq!((status, &own), (200, &world.show(&id).await));
    assert!(
        own["tenant_token"].is_string() && own["addons"].is_array(),
        "{own}"
    );
    let stranger = world.token("");
    assert_eq!(
        world
            .manage("GET", "v1/tenantadm/user/tenant", &stranger, "")
            .await
            .0,
        404
    );
    let children = world
        .manage("GET", "v2/tenantadm/tenants?page=1&per_page=20", &token, "")
        .await;
    assert_eq!(children, (200, json!([])));
}

#[tokio::test]
async fn a_cancelled_trial_ends_at_once_and_others_after_the_notice() {
    let world = World::with(Settings {
        support_email: Some("ops@example.com".to_owned()),
        ..open()
    });
    let (trial, trial_token) = tenant(&world, true).await;
    let (paying, token) = tenant(&world, false).await;
    let cancel = |id: &str| format!("v2/tenantadm/tenants/{id}/cancel");
    let reason = json!({"reason": "too good\nfor us"});
    for (id, body, status) in [
        (trial.as_str(), json!({}), 400),
        (trial.as_str(), json!({"reason": " "}), 400),
        (trial.as_str(), json!([]), 400),
        (paying.as_str(), reason.clone(), 404),
        ("nobody", reason.clone(), 404),
    ] {
        let answer = world.manage("POST", &cancel(id), &trial_token, &body).await;
        assert_eq!(answer.0, status, "{id} {body}");
    }
    assert_eq!(world.told(), Vec::<String>::new());
    assert_eq!(
        world
            .manage("POST", &cancel(&trial), &trial_token, &reason)
            .await,
        (202, Value::Null)
    );
    assert_eq!(world.told(), [format!("revoke {trial}")]);
    assert_eq!(world.show(&trial).await["status"], "suspended");
    let again = world
        .manage("POST", &cancel(&trial), &trial_token, &reason)
        .await;
    assert_eq!(
        (again.0, &again.1["error"]),
        (409, &json!("the tenant is not active"))
    );

    assert_eq!(
        world
            .manage("POST", &cancel(&paying), &token, &reason)
            .await
            .0,
        202
    );
    assert_eq!(world.show(&paying).await["status"], "active");
    assert_eq!(
        world
            .manage("POST", &cancel(&paying), &token, &reason)
            .await
            .0,
        409,
        "already"
    );
    let running = tokio::spawn({
        let jobs = world.jobs.clone();
        async move { jobs.run().await }
    });
    let mails = world.mailer.received(2).await;
    running.abort();
    let about = |id: &str| mails.iter().find(|mail| mail.subject.contains(id)).unwrap();
    assert_eq!(about(&paying).to, ["ops@example.com"]);
    assert!(
        about(&paying)
            .text
            .contains("suspended at 2021-03-03T10:00:00Z")
    );
    assert!(about(&trial).text.contains("too good\nfor us"));
    world.clock.advance(30 * DAY_MS - 1);
    assert_eq!(world.tenantadm.round().await.unwrap(), 0);
    world.clock.advance(1);
    assert_eq!(world.tenantadm.round().await.unwrap(), 1);
    assert_eq!(world.show(&paying).await["status"], "suspended");
}

#[tokio::test]
async fn an_operator_can_keep_a_tenant_that_cancelled() {
    let world = World::new();
    let (id, token) = tenant(&world, false).await;
    let path = format!("v2/tenantadm/tenants/{id}/cancel");
    assert_eq!(
        world
            .manage("POST", &path, &token, json!({"reason": "x"}))
            .await
            .0,
        202
    );
    let active = json!({"status": "active"});
    assert_eq!(
        world
            .call("PUT", &format!("/tenants/{id}/status"), active)
            .await
            .0,
        200
    );
    world.clock.advance(60 * DAY_MS);
    assert_eq!(world.tenantadm.round().await.unwrap(), 0);
    assert_eq!(world.show(&id).await["status"], "active");
}

#[tokio::test]
async fn upgrades_are_refused_without_billing() {
    let world = World::new();
    let (id, token) = tenant(&world, true).await;
    let path = |tail: &str| format!("v2/tenantadm/tenants/{id}/upgrade/{tail}");
    let plan = json!({"plan": "professional"});
    for (tail, body, status) in [
        ("start", Value::Null, 400),
        ("complete", plan, 400),
        ("cancel", Value::Null, 202),
    ] {
        let (got, error) = world.manage("POST", &path(tail), &token, body).await;
        assert_eq!(got, status, "{tail}");
        if status == 400 {
            assert_eq!(error["error"], "billing is not configured");
        }
    }
}

#[tokio::test]
async fn an_operator_grants_upgrades() {
    let world = World::with(Settings {
        billing: Billing::Manual,
        support_email: Some("ops@example.com".to_owned()),
        ..open()
    });
    let (id, token) = tenant(&world, true).await;
    let (paying, paying_token) = tenant(&world, false).await;
    let path = |id: &str, tail: &str| format!("v2/tenantadm/tenants/{id}/upgrade/{tail}");
    let start = world.manage("POST", &path(&id, "start"), &token, "").await;
    assert_eq!(start, (200, json!({"id": id, "secret": ""})));
    for (id, token, tail, body) in [
        (&paying, &paying_token, "start", Value::Null),
        (&paying, &paying_token, "complete", json!({"plan": "os"})),
        (&paying, &paying_token, "cancel", Value::Null),
        (&paying, &token, "start", Value::Null),
        (&id, &token, "complete", json!({"plan": "golden"})),
        (&id, &token, "complete", json!({})),
        (&id, &token, "complete", json!(7)),
    ] {
        let answer = world.manage("POST", &path(id, tail), token, &body).await;
        assert_eq!(answer.0, 400, "{tail} {body}");
    }
    let requested = async || world.tenantadm.get(&id).await.unwrap().requested_plan;
    let plan = json!({"plan": "professional"});
    assert_eq!(
        world
            .manage("POST", &path(&id, "complete"), &token, &plan)
            .await
            .0,
        202
    );
    assert_eq!(requested().await, Some(Plan::Professional));
    assert_eq!(
        world.show(&id).await["trial"],
        true,
        "not before it is granted"
    );
    assert_eq!(
        world
            .manage("POST", &path(&id, "cancel"), &token, "")
            .await
            .0,
        202
    );
    assert_eq!(requested().await, None);
    assert_eq!(
        world
            .manage("POST", &path(&id, "complete"), &token, &plan)
            .await
            .0,
        202
    );
    let granted = json!({"plan": "professional", "trial": false, "trial_expiration": null});
    assert_eq!(
        world
            .call("PUT", &format!("/tenants/{id}"), granted)
            .await
            .0,
        204
    );
    assert_eq!(requested().await, None);
    let tenant = world.show(&id).await;
    assert_eq!(
        (&tenant["trial"], &tenant["trial_expiration"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        world.told(),
        [format!("limit {id} 250"), format!("revoke {id}")]
    );
}

/// Keeps the events that the audit log is given.
#[derive(Default)]
struct Events(Mutex<Vec<Value>>);

impl Handler for Events {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), JobError>> {
        self.0.lock().unwrap().push(job.payload.clone());
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn what_users_do_to_their_account_is_recorded() {
    let world = World::with(Settings {
        billing: Billing::Manual,
        ..open()
    });
    let events = Arc::new(Events::default());
    world.jobs.handle(AUDIT, events.clone());
    let (id, token) = tenant(&world, true).await;
    let path = |tail: &str| format!("v2/tenantadm/tenants/{id}/{tail}");
    let plan = json!({"plan": "professional"});
    let reason = json!({"reason": "too good"});
    for (tail, body, status) in [
        ("upgrade/cancel", &Value::Null, 202),
        ("upgrade/complete", &json!({"plan": "golden"}), 400),
        ("upgrade/complete", &plan, 202),
        ("upgrade/cancel", &Value::Null, 202),
        ("cancel", &json!({}), 400),
        ("cancel", &reason, 202),
        ("cancel", &reason, 409),
    ] {
        let answer = world.manage("POST", &path(tail), &token, body).await;
        assert_eq!(answer.0, status, "{tail} {body}");
    }
    world.jobs.run_due().await.unwrap();
    let recorded = events.0.lock().unwrap().clone();
    let told: Vec<_> = recorded
        .iter()
        .map(|event| (event["action"].as_str(), event["change"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("update"), Some("requested plan: professional")),
            (Some("update"), Some("requested plan: none")),
            (Some("cancel"), Some("too good")),
        ]
    );
    for event in &recorded {
        assert_eq!(event["actor"]["type"], "user");
        let object = json!({"id": id, "type": "tenant", "tenant": {"name": "Acme"}});
        assert_eq!(event["object"], object);
    }
}

#[tokio::test]
async fn plans_and_support_are_asked_of_the_operator() {
    let world = World::with(Settings {
        support_email: Some("ops@example.com".to_owned()),
        ..open()
    });
    let (id, token) = tenant(&world, false).await;
    let plan = format!("v2/tenantadm/tenants/{id}/plan");
    let asked = json!({"current_plan": "os", "requested_plan": "enterprise", "current_addons": "",
        "requested_addons": "monitor", "user_message": "please"});
    assert_eq!(world.manage("POST", &plan, &token, &asked).await.0, 202);
    assert_eq!(
        world
            .manage("POST", &plan, &token, json!({"requested_plan": "x"}))
            .await
            .0,
        400
    );
    let other = world.token("other");
    assert_eq!(world.manage("POST", &plan, &other, &asked).await.0, 404);
    let support = "v2/tenantadm/contact/support";
    for (body, status) in [
        (
            json!({"subject": "Help\r\nBcc: x@y.z", "body": "It does not work."}),
            202,
        ),
        (json!({"subject": "", "body": "x"}), 400),
        (json!({"subject": "x"}), 400),
        (json!("x"), 400),
    ] {
        assert_eq!(
            world.manage("POST", support, &token, &body).await.0,
            status,
            "{body}"
        );
    }
    let running = tokio::spawn({
        let jobs = world.jobs.clone();
        async move { jobs.run().await }
    });
    let mails = world.mailer.received(2).await;
    running.abort();
    let help = mails
        .iter()
        .find(|mail| mail.subject.starts_with("Help"))
        .unwrap();
    assert!(help.text.contains("It does not work.") && help.text.contains(&id));
    let wish = mails
        .iter()
        .find(|mail| mail.subject.starts_with("Plan"))
        .unwrap();
    assert!(wish.text.contains("enterprise") && wish.text.contains("please"));

    let silent = World::new();
    let (_, token) = tenant(&silent, false).await;
    let body = json!({"subject": "Help", "body": "x"});
    assert_eq!(silent.manage("POST", support, &token, body).await.0, 409);
}

#[tokio::test]
async fn nothing_about_money_is_made_up() {
    for settings in [
        open(),
        Settings {
            billing: Billing::Manual,
            ..open()
        },
        Settings::default(),
    ] {
        let world = World::with(settings);
        let token = world.token("t");
        for (method, tail, status) in [
            ("GET", "", 200),
            ("POST", "/secret", 409),
            ("POST", "/card", 409),
            ("POST", "/card/seti_1/confirm", 404),
            ("GET", "/profile", 404),
            ("POST", "/profile", 409),
            ("PATCH", "/profile", 409),
            ("GET", "/subscription", 404),
            ("POST", "/subscription", 409),
            ("POST", "/subscription/invoices/preview", 409),
        ] {
            let path = format!("v2/tenantadm/billing{tail}");
            let (got, json) = world.manage(method, &path, &token, "{}").await;
            assert_eq!(got, status, "{method} {tail}");
            if status == 200 {
                assert_eq!(json, json!({}));
            } else {
                assert!(json["error"].is_string() && json["request_id"].is_string());
            }
        }
    }
}
