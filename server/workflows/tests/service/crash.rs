//! Jobs outlive the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Map, json};

use crate::rig::Rig;

fn two_steps() -> serde_json::Value {
    let step = |name: &str, path: &str| {
        json!({"name": name, "type": "http", "retries": 3, "retryDelaySeconds": 2, "http": {
            "uri": format!("http://mender-inventory:8080{path}"), "method": "POST",
            "body": "${first.json.key}"}})
    };
    json!([step("first", "/first"), step("second", "/second")])
}

#[tokio::test]
async fn a_job_goes_on_where_the_dead_process_left_it() {
    let rig = Rig::new();
    rig.register("two", two_steps(), &[]).await;
    // The second step fails once; then the process ends before the retry.
    rig.neighbours.answer(|call| match call.path.as_str() {
        "/first" => Ok((200, r#"{"key":"k1"}"#.to_owned())),
        _ => Ok((503, String::new())),
    });
    let id = rig.start("two", &json!({})).await;
    rig.jobs.run_due().await.unwrap();
    let path = format!("/api/v1/workflow/two/{id}");
    let document = rig.get(&path).await.ok(200).json();
    assert_eq!(document["status"], "processing");
    assert_eq!(document["results"].as_array().unwrap().len(), 1);
    let rig = rig.restart().await;
    rig.neighbours.always(200);
    rig.run_all().await;
    let document = rig.get(&path).await.ok(200).json();
    assert_eq!(document["status"], "done");
    assert_eq!(document["results"][1]["attempts"], 2);
    assert_eq!(
        rig.neighbours.paths(),
        ["POST /first", "POST /second", "POST /second"]
    );
    let last = rig.neighbours.calls.lock().unwrap()[2].body.clone();
    assert_eq!(
        last, "k1",
        "answers of earlier steps are known after the restart"
    );
}

#[tokio::test]
async fn a_job_of_another_services_batch_persists() {
    let rig = Rig::new();
    rig.register("two", two_steps(), &[]).await;
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    rig.neighbours.answer(move |_| {
        // More often than the step's retries.
        if counted.fetch_add(1, Ordering::SeqCst) < 10 {
            return Err("down".to_owned());
        }
        Ok((204, String::new()))
    });
    let (statement, id) = rig.workflows.within_batch("t1", "two", Map::new());
    rig.db.apply(vec![statement]).await.unwrap();
    assert!(
        !rig.workflows
            .settle("t1", &id, Duration::from_secs(20))
            .await
    );
    rig.run_all().await;
    assert_eq!(failures.load(Ordering::SeqCst), 12);
    assert!(rig.workflows.recorded().await.unwrap().is_empty());
    let (statement, id) = rig.workflows.within_batch("t1", "two", Map::new());
    rig.db.apply(vec![statement]).await.unwrap();
    assert!(
        rig.workflows
            .settle("t1", &id, Duration::from_secs(20))
            .await
    );
}

#[tokio::test]
async fn records_go_after_their_time() {
    let rig = Rig::new();
    rig.register("none", json!([]), &[]).await;
    rig.ran("none", &json!({})).await;
    let total = async || {
        let counts = rig.workflows.recorded().await.unwrap();
        counts.iter().map(|(_, jobs)| jobs).sum::<u64>()
    };
    assert_eq!(total().await, 1);
    rig.clock.advance(24 * 3_600_000 + 1);
    let workflows = rig.workflows.clone();
    let run = tokio::spawn(async move { workflows.run().await });
    while total().await > 0 {
        tokio::task::yield_now().await;
    }
    run.abort();
}
