//! What those who start workflows need.

use std::time::Duration;

use ambidex_access::TenantId;
use ambidex_db::Statement;
use ambidex_kit::BoxFuture;
use serde_json::{Map, Value};

/// How long a caller waits for the effects of its change in other services. They come later if need be.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Workflows(pub(crate) ambidex_workflows::Workflows);

impl Workflows {
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        self.0.within_batch(tenant.as_str(), workflow, input)
    }

    async fn settle(&self, tenant: &TenantId, job_id: &str) {
        self.0.settle(tenant.as_str(), job_id, SETTLE_LIMIT).await;
    }
}

impl ambidex_deviceconfig::ports::Workflows for Workflows {
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        self.start(tenant, workflow, input)
    }

    fn settle<'a>(&'a self, tenant: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.settle(tenant, job_id))
    }
}

impl ambidex_devauth::ports::Workflows for Workflows {
    fn start(
        &self,
        tenant: &TenantId,
        workflow: &'static str,
        input: Map<String, Value>,
    ) -> (Statement, String) {
        self.start(tenant, workflow, input)
    }

    fn wake(&self) {
        self.0.wake();
    }

    fn settle<'a>(&'a self, tenant: &'a TenantId, job_id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.settle(tenant, job_id))
    }
}
