//! The internal operations.

use ambidex_deviceconnect::Settings;

use crate::rig::{Rig, new_device};

#[tokio::test]
async fn tenants_and_devices_are_provisioned_and_removed() {
    let rig = Rig::new();
    let on = rig.start(Settings::default()).await;
    assert_eq!(on.internal("GET", "/alive", "").await.0, 204);
    assert_eq!(on.internal("GET", "/health", "").await.0, 204);
    assert_eq!(
        on.internal("POST", "/tenants", r#"{"tenant_id":"t1"}"#)
            .await
            .0,
        201
    );
    for body in ["", "{", r#"{"tenant_id":""}"#, "[]", r#"{"tenant_id":1}"#] {
        assert_eq!(on.internal("POST", "/tenants", body).await.0, 400, "{body}");
    }
    let id = new_device();
    let body = format!(r#"{{"device_id":"{id}"}}"#);
    for _ in 0..2 {
        assert_eq!(
            on.internal("POST", "/tenants/t1/devices", &body).await.0,
            201
        );
    }
    let (status, text) = on
        .internal("POST", "/tenants/t1/devices", r#"{"device_id":""}"#)
        .await;
    assert_eq!(status, 400);
    assert!(text.contains("device_id is empty"), "{text}");
    let (status, text) = on.internal("POST", "/tenants/t1/devices", "x").await;
    assert_eq!(status, 400);
    assert!(text.contains("invalid payload: "), "{text}");
    // a server without tenants
    for tenant in ["", "default"] {
        let path = format!("/tenants/{tenant}/devices");
        assert_eq!(on.internal("POST", &path, &body).await.0, 201);
        assert_eq!(rig.status(&on, &id).await, "unknown");
        let path = format!("{path}/{id}");
        assert_eq!(on.internal("DELETE", &path, "").await.0, 202);
        assert_eq!(rig.status(&on, &id).await, "404");
    }
    let path = format!("/tenants/t1/devices/{id}");
    assert_eq!(
        on.internal("POST", &format!("{path}/check-update"), "")
            .await
            .0,
        409
    );
    for _ in 0..2 {
        assert_eq!(on.internal("DELETE", &path, "").await.0, 202);
    }
    assert_eq!(
        on.internal("POST", &format!("{path}/send-inventory"), "")
            .await
            .0,
        404
    );
    assert_eq!(on.internal("DELETE", "/tenants/t1", "").await.0, 204);
}
