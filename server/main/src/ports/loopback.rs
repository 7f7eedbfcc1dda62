//! The server's own routes, for requests that workflows send to its services: no socket, no second connection limit.

use std::sync::OnceLock;

use ambidex_access::TenantId;
use ambidex_kit::BoxFuture;
use ambidex_workflows::ports::Services;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::{Request, Response, Uri};
use tower::ServiceExt as _;

/// Longest answer that a workflow takes, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Both listeners' routes. They are made of the services that use them, so they are connected later.
#[derive(Default)]
pub(crate) struct Loopback(OnceLock<Routes>);

struct Routes {
    public: Router,
    internal: Router,
}

impl Loopback {
    /// Called once, before anything is served.
    pub(crate) fn connect(&self, public: Router, internal: Router) {
        let _ = self.0.set(Routes { public, internal });
    }
}

impl Services for Loopback {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, String>> {
        Box::pin(async move {
            let routes = self.0.get().ok_or("the server is not serving yet")?;
            let (mut parts, body) = request.into_parts();
            parts.uri = with_tenant(parts.uri)?;
            let path = parts.uri.path();
            let public = path.starts_with("/api/management/") || path.starts_with("/api/devices/");
            let router = if public {
                routes.public.clone()
            } else {
                routes.internal.clone()
            };
            let answer = router
                .oneshot(Request::from_parts(parts, Body::from(body)))
                .await;
            let (parts, body) = answer.map_err(|never| never.to_string())?.into_parts();
            let body = to_bytes(body, ANSWER_BYTES_MAX)
                .await
                .map_err(|error| format!("the answer cannot be read: {error}"))?;
            Ok(Response::from_parts(parts, body))
        })
    }
}

/// On a server of one tenant a template leaves the tenant's segment empty, and not every service has routes for that.
fn with_tenant(uri: Uri) -> Result<Uri, String> {
    let text = uri.path_and_query().map_or("/", |whole| whole.as_str());
    let Some((before, after)) = text.split_once("/tenants//") else {
        return Ok(uri);
    };
    let named = format!("{before}/tenants/{}/{after}", TenantId::DEFAULT_NAME);
    named.parse().map_err(|_| format!("{named:?} is no path"))
}
