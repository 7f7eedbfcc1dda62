//! Releases (table B122).

use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn b122_releases_group_artifacts_by_name() {
    let world = World::new();
    assert_eq!(
        world.get("/deployments/releases").await.expect(200).json(),
        json!([])
    );
    world.artifact("v2", &["qemu"]).await;
    world.artifact("v2", &["arm"]).await;
    world.artifact("v1", &["qemu"]).await;
    let all = world.get("/deployments/releases").await.expect(200).json();
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["v1", "v2"]);
    assert_eq!(all[1]["artifacts"].as_array().unwrap().len(), 2);
    assert_eq!(all[1]["Name"], all[1]["name"]);
    assert_eq!(all[1]["Artifacts"], all[1]["artifacts"]);
    let one = world
        .get("/deployments/releases?name=v2")
        .await
        .expect(200)
        .json();
    assert_eq!(one, json!([all[1]]));
    assert_eq!(
        world.get("/deployments/releases?name=v").await.json(),
        json!([])
    );
    let page = world
        .get("/deployments/releases?per_page=1&page=2")
        .await
        .expect(200);
    assert_eq!(
        (page.json(), page.header("x-total-count")),
        (json!([all[1]]), "2")
    );
}
