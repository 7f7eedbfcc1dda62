//! Without the right token every secured operation is 401, whatever else is wrong with the request.

use crate::world::{DEVICES, MANAGEMENT, World, request};

#[tokio::test]
async fn every_secured_operation_wants_its_kind_of_token() {
    let world = World::new();
    let device = world.device(1).token;
    let management = [
        ("GET", "/deployments"),
        ("POST", "/deployments"),
        ("POST", "/deployments/group/g"),
        ("POST", "/deployments/group/"),
        ("POST", "/deployments/statistics/list"),
        ("GET", "/deployments/x"),
        ("PUT", "/deployments/x/status"),
        ("GET", "/deployments/x/statistics"),
        ("GET", "/deployments/x/devices"),
        ("GET", "/deployments/x/devices/list"),
        ("GET", "/deployments/x/device_list"),
        ("GET", "/deployments/x/devices/y/log"),
        ("DELETE", "/deployments/devices/x"),
        ("GET", "/deployments/releases"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts?page=x"),
        ("POST", "/artifacts"),
        ("GET", "/artifacts/list"),
        ("GET", "/artifacts/x"),
        ("PUT", "/artifacts/x"),
        ("DELETE", "/artifacts/x"),
        ("GET", "/artifacts/x/download"),
        ("GET", "/limits/storage"),
        ("PATCH", "/deployments/x"),
        ("GET", "/deployments/devices/x"),
        ("DELETE", "/deployments/devices/x/history"),
        ("GET", "/deployments/releases/list"),
        ("GET", "/deployments/config"),
        ("GET", "/config"),
        ("POST", "/artifacts/generate"),
        ("POST", "/artifacts/directupload"),
        ("POST", "/artifacts/directupload/x/complete"),
    ]
    .map(|(method, path)| (method, format!("{MANAGEMENT}{path}")));
    let newer = [
        ("GET", "v2/deployments/deployments"),
        ("POST", "v2/deployments/deployments"),
        ("GET", "v2/deployments/deployments/releases"),
        ("DELETE", "v2/deployments/deployments/releases"),
        ("GET", "v2/deployments/deployments/releases/x"),
        ("PATCH", "v2/deployments/deployments/releases/x"),
        ("PUT", "v2/deployments/deployments/releases/x/tags"),
        ("GET", "v2/deployments/releases/all/tags"),
        ("GET", "v2/deployments/releases/all/types"),
        ("GET", "v2/deployments/artifacts"),
        ("GET", "v1alpha1/deployments/software"),
        ("GET", "v1alpha1/deployments/software/tags"),
    ]
    .map(|(method, path)| (method, format!("/api/management/{path}")));
    for (method, path) in management.into_iter().chain(newer) {
        for token in [None, Some("garbage"), Some(device.as_str())] {
            let reply = world.send(request(method, &path, token, None)).await;
            assert_eq!(reply.status, 401, "{method} {path} {token:?}");
        }
    }
    let devices = [
        ("GET", format!("{DEVICES}/next")),
        ("POST", format!("{DEVICES}/next")),
        (
            "POST",
            "/api/devices/v2/deployments/device/deployments/next".to_owned(),
        ),
        (
            "GET",
            "/api/devices/v2/deployments/device/deployments/x/update_control_map".to_owned(),
        ),
        ("PUT", format!("{DEVICES}/x/status")),
        ("PUT", format!("{DEVICES}/x/log")),
    ];
    for (method, path) in devices {
        for token in [None, Some("garbage"), Some(world.user.as_str())] {
            let reply = world.send(request(method, &path, token, None)).await;
            assert_eq!(reply.status, 401, "{method} {path} {token:?}");
        }
    }
}
