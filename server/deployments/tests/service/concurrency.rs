//! Many requests at once: counters stay exact, phases are never overfilled.

use std::sync::Arc;

use ambidex_kit::rfc3339;
use futures_util::future::join_all;
use serde_json::json;

use crate::world::{START_MS, World, artifact};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b095_parallel_polls_never_overfill_a_phase() {
    let world = Arc::new(World::new());
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..51);
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    let body = json!({
        "name": "n", "artifact_name": "release-2", "devices": ids,
        "phases": [{"batch_size": 10}, {"batch_size": 30, "start_ts": rfc3339(START_MS + 1_000)}, {"start_ts": rfc3339(START_MS + 2_000)}],
    });
    let id = world.post("/deployments", body).await.expect(201).created();
    for expected in [5, 20, 50] {
        // Every device asks twice at once.
        let polls = devices.iter().chain(&devices).cloned().map(|device| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.poll(&device).await.map(|_| device.id) })
        });
        let mut served: Vec<String> = join_all(polls)
            .await
            .into_iter()
            .filter_map(Result::unwrap)
            .collect();
        served.sort_unstable();
        served.dedup();
        assert_eq!(served.len(), expected);
        assert_eq!(world.show(&id).await["device_count"], expected);
        world.clock.advance(1_000);
    }
    let phases = world.show(&id).await["phases"].clone();
    let counts: Vec<_> = (0..3)
        .map(|n| phases[n]["device_count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [5, 15, 30]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_reports_keep_the_statistics_exact() {
    let world = Arc::new(World::new());
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..41);
    let id = world.deployment("release-2", &devices).await;
    for device in &devices {
        world.poll(device).await.unwrap();
    }
    let words = [
        "downloading",
        "installing",
        "rebooting",
        "success",
        "failure",
        "success",
    ];
    let reports = devices
        .iter()
        .flat_map(|device| words.map(|word| (device.clone(), word)));
    let tasks = reports.map(|(device, word)| {
        let (world, id) = (Arc::clone(&world), id.clone());
        tokio::spawn(async move { world.report(&device, &id, word).await.status })
    });
    for status in join_all(tasks).await {
        assert_eq!(status.unwrap(), 204);
    }
    let rows = world.device_rows(&id).await;
    let mut counted = std::collections::HashMap::<String, u64>::new();
    for row in &rows {
        *counted
            .entry(row["status"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    let statistics = world.statistics(&id).await;
    assert_eq!(statistics.values().sum::<u64>(), 40);
    for (status, count) in statistics {
        assert_eq!(
            count,
            counted.get(&status).copied().unwrap_or(0),
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_among_reports_leaves_statistics_that_add_up() {
    for round in 0..10 {
        let world = Arc::new(World::new());
        world.artifact("release-2", &["qemu"]).await;
        let devices = world.devices(1..31);
        let id = world.deployment("release-2", &devices).await;
        let mut tasks = Vec::new();
        for (n, device) in devices.iter().cloned().enumerate() {
            let (world, id) = (Arc::clone(&world), id.clone());
            tasks.push(tokio::spawn(async move {
                if n == 5 + round {
                    let path = format!("/deployments/{id}/status");
                    world
                        .put(&path, json!({"status": "aborted"}))
                        .await
                        .expect(204);
                    return;
                }
                if world.poll(&device).await.is_some() {
                    for word in ["downloading", "success"] {
                        let status = world.report(&device, &id, word).await.status;
                        assert!([204, 409].contains(&status), "{status}");
                    }
                }
            }));
        }
        for task in join_all(tasks).await {
            task.unwrap();
        }
        let rows = world.device_rows(&id).await;
        let count = |word: &str| rows.iter().filter(|row| row["status"] == word).count() as u64;
        let statistics = world.statistics(&id).await;
        assert_eq!(statistics["success"], count("success"));
        assert_eq!(statistics["aborted"], count("aborted"));
        assert_eq!(statistics.values().sum::<u64>(), rows.len() as u64);
        assert_eq!(world.show(&id).await["device_count"], rows.len());
        assert_eq!(world.show(&id).await["status"], "finished");
        for device in &devices {
            assert_eq!(world.poll(device).await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_equal_uploads_one_wins() {
    let world = Arc::new(World::new());
    let tasks = (0..8).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.upload(&artifact("release-2", &["qemu"])).await.status })
    });
    let mut statuses: Vec<u16> = join_all(tasks)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(world.files(), 1);
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_orphans").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_is_deleted_or_deployed_never_both() {
    for _ in 0..10 {
        let world = Arc::new(World::new());
        let artifact = world.artifact("release-2", &["qemu"]).await;
        let device = world.device(1);
        let deploy = {
            let (world, id) = (Arc::clone(&world), device.id.clone());
            tokio::spawn(async move {
                let body = json!({"name": "n", "artifact_name": "release-2", "devices": [id]});
                world.post("/deployments", body).await.status
            })
        };
        let delete = {
            let world = Arc::clone(&world);
            tokio::spawn(
                async move { world.delete(&format!("/artifacts/{artifact}")).await.status },
            )
        };
        let outcome = (deploy.await.unwrap(), delete.await.unwrap());
        assert!(matches!(outcome, (201, 409) | (422, 204)), "{outcome:?}");
        assert_eq!(world.poll(&device).await.is_some(), outcome.0 == 201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_created_at_once_are_all_served_in_order() {
    let world = Arc::new(World::new());
    world.artifact("release-2", &["qemu"]).await;
    let device = world.device(1);
    let tasks = (0..10).map(|_| {
        let (world, device) = (Arc::clone(&world), device.clone());
        tokio::spawn(async move {
            world
                .deployment("release-2", std::slice::from_ref(&device))
                .await
        })
    });
    let mut created: Vec<String> = join_all(tasks)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let mut served = Vec::new();
    while let Some(found) = world.poll(&device).await {
        world
            .report(&device, &found.id, "success")
            .await
            .expect(204);
        served.push(found.id);
    }
    created.sort_unstable();
    let mut sorted = served.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, created);
    let mut listed = crate::world::ids(&world.get("/deployments").await.json());
    listed.reverse();
    assert_eq!(served, listed);
}
