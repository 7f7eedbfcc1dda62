//! Deployments with more targets than one batch holds, and what a start-up repairs.

use serde_json::json;

use crate::world::World;

fn accept(world: &World, count: u128) {
    let ids = (1..=count)
        .map(|n| uuid::Uuid::from_u128(n).to_string())
        .collect();
    world
        .fleet
        .accepted
        .lock()
        .unwrap()
        .insert(String::new(), ids);
}

#[tokio::test]
async fn thousands_of_targets_are_all_or_none() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    for count in [499_u128, 500, 501, 1_234] {
        accept(&world, count);
        let body = json!({"name": "n", "artifact_name": "release-2", "all_devices": true});
        let id = world.post("/deployments", body).await.expect(201).created();
        assert_eq!(world.show(&id).await["max_devices"], json!(count as u64));
        let list = world
            .get(&format!("/deployments/{id}/device_list"))
            .await
            .json();
        assert_eq!(list.as_array().unwrap().len() as u128, count);
        for n in [1, count / 2, count] {
            let device = world.device(n);
            assert_eq!(world.poll(&device).await.unwrap().id, id);
        }
        assert_eq!(world.counts(&id).await, json!({"pending": count as u64}));
        let path = format!("/deployments/{id}/status");
        world
            .put(&path, json!({"status": "aborted"}))
            .await
            .expect(204);
        assert_eq!(world.counts(&id).await, json!({"aborted": 3}));
        for n in [1, 2, count] {
            assert_eq!(world.poll(&world.device(n)).await, None);
        }
    }
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM deployment_devices WHERE state IN (0, 1)")
            .await,
        0
    );
    let body = json!({"name": "n", "artifact_name": "release-9", "all_devices": true});
    world.post("/deployments", body).await.expect(422);
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM deployments WHERE published = 0")
            .await,
        0
    );
}

#[tokio::test]
async fn an_abort_of_many_is_answered_at_once_and_settled_at_once() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    accept(&world, 10_001);
    let body = json!({"name": "n", "artifact_name": "release-2", "all_devices": true});
    let id = world.post("/deployments", body).await.expect(201).created();
    let device = world.device(10_001);
    world.poll(&device).await.unwrap();
    world
        .put(
            &format!("/deployments/{id}/status"),
            json!({"status": "aborted"}),
        )
        .await
        .expect(204);
    assert_eq!(world.counts(&id).await, json!({"aborted": 1}));
    assert_eq!(world.device_rows(&id).await[0]["status"], "aborted");
    assert_eq!(world.poll(&device).await, None);
    assert_eq!(world.poll(&world.device(5)).await, None);
    world.report(&device, &id, "success").await.expect(409);
    for _ in 0..1_000 {
        if world
            .rows("SELECT cleaning FROM deployments WHERE number = 1")
            .await
            == 0
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM deployment_devices WHERE state IN (0, 1)")
            .await,
        0
    );
    world.report(&device, &id, "success").await.expect(409);
}

#[tokio::test]
async fn a_start_up_finishes_what_was_cut_off() {
    let world = World::new();
    world.artifact("release-2", &["qemu"]).await;
    let devices = world.devices(1..4);
    let cut = world.deployment("release-2", &devices).await;
    let aborted = world.deployment("release-2", &devices).await;
    // As a crash in the middle of creating the first and of aborting the second would leave it.
    for sql in [
        "UPDATE deployments SET published = 0 WHERE number = 1",
        "INSERT INTO artifact_orphans (blob_key, since_ms) VALUES ('left-over', 1)",
    ] {
        world
            .db
            .apply(vec![ambidex_db::statement(sql, Vec::new())])
            .await
            .unwrap();
    }
    assert_eq!(
        world.poll(&devices[0]).await.unwrap().id,
        aborted,
        "unpublished is invisible"
    );
    let sql = "UPDATE deployments SET aborted = 1, active = 0, cleaning = 1, status = 'finished', \
         count_pending = 0, count_aborted = 1 WHERE number = 2";
    world
        .db
        .apply(vec![ambidex_db::statement(sql, Vec::new())])
        .await
        .unwrap();
    world
        .report(&devices[0], &aborted, "success")
        .await
        .expect(409);
    assert_eq!(world.device_rows(&aborted).await[0]["status"], "aborted");
    std::fs::write(world.dir.path().join("blobs/objects/left-over"), b"x").unwrap();
    assert_eq!(world.files(), 2);

    let World { dir, db, .. } = world;
    db.close().await.unwrap();
    let world = World::open(dir, ambidex_deployments::Settings::default());
    world.service.recover().await.unwrap().await.unwrap();
    world.get(&format!("/deployments/{cut}")).await.expect(404);
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM deployment_devices WHERE deployment_number = 1")
            .await,
        0
    );
    assert_eq!(
        world
            .rows("SELECT COUNT(*) FROM deployment_devices WHERE state IN (0, 1)")
            .await,
        0
    );
    assert_eq!(
        world
            .rows("SELECT cleaning FROM deployments WHERE number = 2")
            .await,
        0
    );
    assert_eq!(world.files(), 1);
    assert_eq!(world.rows("SELECT COUNT(*) FROM artifact_orphans").await, 0);
    assert_eq!(world.poll(&world.device(2)).await, None);
}

/// Instances on one database see each other's work in progress: what is unfinished once may be alive,
/// what is unfinished still is dead.
#[tokio::test]
async fn what_another_instance_left_is_finished_when_it_stays() {
    let world = World::new();
    world.artifact("release-1", &["qemu"]).await;
    let alive = world.device(1);
    let dead = world.device(2);
    let first = world.deployment("release-1", &[alive.clone()]).await;
    let second = world.deployment("release-1", &[dead.clone()]).await;
    let run = async |sql: &'static str| {
        let batch = vec![ambidex_db::statement(sql, Vec::new())];
        world.db.apply(batch).await.unwrap();
    };
    run("UPDATE deployments SET published = 0").await;
    let look = world
        .service
        .finish_abandoned(ambidex_deployments::LeftOver::default())
        .await
        .unwrap();
    assert_eq!(world.rows("SELECT COUNT(*) FROM deployments").await, 2);
    run("UPDATE deployments SET published = 1 WHERE number = 1").await;
    world.service.finish_abandoned(look).await.unwrap();
    assert_eq!(world.poll(&alive).await.unwrap().id, first);
    assert_eq!(world.rows("SELECT COUNT(*) FROM deployments").await, 1);
    world
        .get(&format!("/deployments/{second}"))
        .await
        .expect(404);
    assert_eq!(world.poll(&dead).await, None);
}
