//! Opens the engines and wires the services to each other.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambidex_access::{Access, CallGate, Keys, Seal};
use ambidex_auditlogs::Auditlogs;
use ambidex_blob::Blobs;
use ambidex_bus::Bus;
use ambidex_db::Db;
use ambidex_deployments::Deployments;
use ambidex_devauth::Devauth;
use ambidex_deviceconfig::Deviceconfig;
use ambidex_deviceconnect::Deviceconnect;
use ambidex_inventory::Inventory;
use ambidex_jobs::Jobs;
use ambidex_kit::{Clock, front};
use ambidex_mail::Mailer;
use ambidex_tenantadm::Tenantadm;
use ambidex_useradm::Useradm;
use ambidex_workflows::Workflows;
use anyhow::Context as _;
use axum::{Extension, Router};

use crate::access_check::{AccessCheck, Limits};
use crate::config::{Artifacts, Store};
use crate::data_dir;
use crate::metrics;
use crate::openapi;
use crate::ports::accounts::Accounts;
use crate::ports::loopback::Loopback;
use crate::ports::{auditlogs, deployments, devauth, deviceconfig, deviceconnect, useradm};
use crate::secrets;
use crate::tenancy::Tenancy;

/// Between two looks for uploads that nobody will finish.
const UPLOADS_ROUND: Duration = Duration::from_secs(24 * 60 * 60);

/// Choices that only a serving process makes.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) public_url: Option<String>,
    pub(crate) multi_tenant: bool,
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) mailer: Mailer,
    pub(crate) workflow_binaries: Vec<String>,
}

/// All services, wired.
pub(crate) struct Services {
    pub(crate) db: Db,
    pub(crate) jobs: Jobs,
    pub(crate) bus: Bus,
    pub(crate) inventory: Inventory,
    pub(crate) deployments: Deployments,
    pub(crate) blobs: Blobs,
    pub(crate) devauth: Devauth,
    pub(crate) useradm: Useradm,
    pub(crate) tenantadm: Tenantadm,
    pub(crate) auditlogs: Auditlogs,
    pub(crate) deviceconnect: Deviceconnect,
    /// Counts calls against the limits of tenants; `None` on a server of one tenant.
    gate: Option<CallGate>,
    tenancy: Tenancy,
    pub(crate) workflows: Workflows,
    deviceconfig: Deviceconfig,
    loopback: Arc<Loopback>,
    keys: Arc<Keys>,
    pub(crate) clock: Clock,
    started: SystemTime,
}

impl Services {
    /// Opens the database and the keys (made at the first start) and brings every service's tables up
    /// to date.
    pub(crate) async fn open(store: &Store, options: Options) -> anyhow::Result<Services> {
        data_dir::prepare(&store.data_dir)?;
        let keys_dir = store.data_dir.join("keys");
        let clock = Clock::system();
        let db = store.database.open()?;
        if db.is_shared() {
            secrets::share(&db, &keys_dir).await?;
        }
        let keys = Arc::new(Keys::open(&keys_dir)?);
        let jobs = Jobs::new(db.clone(), clock.clone())?;
        let loopback = Arc::new(Loopback::default());
        let workflows = Workflows::new(
            db.clone(),
            clock.clone(),
            jobs.clone(),
            ambidex_workflows::Tools {
                services: Arc::clone(&loopback) as Arc<dyn ambidex_workflows::ports::Services>,
                mailer: options.mailer.clone(),
                bus: options.bus.clone(),
            },
            ambidex_workflows::Settings {
                binaries: options.workflow_binaries,
                ..ambidex_workflows::Settings::default()
            },
        )
        .context("workflows")?;
        let inventory =
            Inventory::new(db.clone(), jobs.clone(), clock.clone()).context("inventory")?;
        let links = ambidex_access::secret(&keys_dir, secrets::DOWNLOAD_LINKS)?;
        let blobs = match &store.artifacts {
            Artifacts::Dir(dir) => Blobs::local(dir, links)?,
            Artifacts::S3(url) => Blobs::s3(url, links).context("--storage-url")?,
        };
        let deployments = Deployments::new(
            db.clone(),
            blobs.clone(),
            clock.clone(),
            deployments::ports(inventory.clone()),
            jobs.clone(),
            ambidex_deployments::Settings {
                public_url: options.public_url.clone(),
                ..ambidex_deployments::Settings::default()
            },
        )
        .context("deployments")?;
        let accounts = Arc::new(Accounts::default());
        let tenantadm = Tenantadm::new(
            db.clone(),
            clock.clone(),
            Arc::clone(&keys),
            Arc::clone(&accounts) as Arc<dyn ambidex_tenantadm::ports::Accounts>,
            jobs.clone(),
            options.mailer.clone(),
            options.tenancy.settings.clone(),
        )
        .context("tenantadm")?;
        let seal = ambidex_access::secret(&keys_dir, secrets::SECOND_FACTORS)?;
        let useradm = Useradm::new(
            ambidex_useradm::Parts {
                db: db.clone(),
                clock: clock.clone(),
                keys: Arc::clone(&keys),
                seal: Seal::new(&seal)?,
                jobs: jobs.clone(),
                mailer: options.mailer.clone(),
                tenants: Arc::new(useradm::Tenants(tenantadm.clone(), clock.clone())),
                devices: Arc::new(useradm::Devices(inventory.clone())),
            },
            ambidex_useradm::Settings {
                public_url: options.public_url.clone(),
                ..ambidex_useradm::Settings::default()
            },
        )
        .context("useradm")?;
        let devauth = Devauth::new(
            db.clone(),
            jobs.clone(),
            clock.clone(),
            Arc::clone(&keys),
            devauth::ports(
                inventory.clone(),
                workflows.clone(),
                options.bus.clone(),
                options.multi_tenant.then(|| tenantadm.clone()),
            ),
            ambidex_devauth::Settings {
                default_tenant_token: options.tenancy.default_tenant_token.clone(),
                ..ambidex_devauth::Settings::default()
            },
        )
        .context("devauth")?;
        accounts.connect(useradm.clone(), devauth.clone());
        let auditlogs = Auditlogs::new(
            db.clone(),
            clock.clone(),
            Arc::new(auditlogs::Directory {
                useradm: useradm.clone(),
                devauth: devauth.clone(),
            }),
            ambidex_auditlogs::Settings::default(),
        )
        .context("auditlogs")?;
        jobs.handle(ambidex_jobs::AUDIT, Arc::new(auditlogs.clone()));
        let deviceconnect = Deviceconnect::new(
            db.clone(),
            clock.clone(),
            options.bus.clone(),
            jobs.clone(),
            Arc::new(deviceconnect::Neighbours {
                inventory: inventory.clone(),
                devauth: devauth.clone(),
                useradm: useradm.clone(),
                tenants: options.multi_tenant.then(|| tenantadm.clone()),
            }),
            ambidex_deviceconnect::Settings {
                spool: Some(store.data_dir.clone()),
                ..ambidex_deviceconnect::Settings::default()
            },
        )
        .context("deviceconnect")?;
        let limits = options.multi_tenant.then(|| Limits(tenantadm.clone()));
        let gate = limits.map(|limits| CallGate::new(Box::new(limits), clock.clone()));
        let deviceconfig = Deviceconfig::new(
            db.clone(),
            clock.clone(),
            jobs.clone(),
            deviceconfig::ports(inventory.clone(), workflows.clone()),
        )
        .context("deviceconfig")?;
        Ok(Services {
            db,
            jobs,
            bus: options.bus,
            inventory,
            deployments,
            blobs,
            devauth,
            useradm,
            tenantadm,
            auditlogs,
            deviceconnect,
            gate,
            tenancy: options.tenancy,
            workflows,
            deviceconfig,
            loopback,
            keys,
            clock,
            started: SystemTime::now(),
        })
    }

    /// Routes of the public listener.
    pub(crate) fn public(&self) -> anyhow::Result<Router> {
        let routes = self
            .devauth
            .routes()
            .merge(self.inventory.routes())
            .merge(self.deployments.routes())
            .merge(self.useradm.routes())
            .merge(self.tenantadm.routes())
            .merge(self.auditlogs.routes())
            .merge(self.deviceconnect.routes())
            .merge(self.deviceconfig.routes());
        let document = openapi::routes(openapi::Audience::Public)?;
        let routes = routes.merge(document).layer(Extension(self.access()));
        Ok(front(
            match self.tenancy.address_limit(self.clock.clone()) {
                Some(limit) => limit.around(routes),
                None => routes,
            },
        ))
    }

    /// Routes of the internal listener.
    pub(crate) fn internal(&self) -> anyhow::Result<Router> {
        let routes = self
            .devauth
            .internal_routes()
            .merge(self.inventory.internal_routes())
            .merge(self.deployments.internal_routes())
            .merge(self.useradm.internal_routes())
            .merge(self.tenantadm.internal_routes())
            .merge(self.auditlogs.internal_routes())
            .merge(self.deviceconnect.internal_routes())
            .merge(self.deviceconfig.internal_routes())
            .merge(self.workflows.internal_routes());
        let metrics = metrics::routes(metrics::Sources {
            db: self.db.clone(),
            devauth: self.devauth.clone(),
            deployments: self.deployments.clone(),
            deviceconnect: self.deviceconnect.clone(),
            jobs: self.jobs.clone(),
            workflows: self.workflows.clone(),
            started: self.started,
        });
        let document = openapi::routes(openapi::Audience::Internal)?;
        let routes = routes.merge(metrics).merge(document);
        let routes = routes.layer(Extension(self.access()));
        Ok(front(match self.gate.clone() {
            Some(gate) => routes.layer(Extension(gate)),
            None => routes,
        }))
    }

    fn access(&self) -> Access {
        let check = AccessCheck {
            devauth: self.devauth.clone(),
            useradm: self.useradm.clone(),
            inventory: self.inventory.clone(),
            tenants: self.gate.clone().map(|gate| (self.tenantadm.clone(), gate)),
        };
        Access::new(Arc::clone(&self.keys), self.clock.clone(), Arc::new(check))
    }

    /// Lets workflows reach the services. Only for a process that serves.
    pub(crate) fn connect(&self) -> anyhow::Result<()> {
        self.loopback.connect(self.public()?, self.internal()?);
        Ok(())
    }

    /// Removes, once a day, what dead processes left in storage that several use. Never ends.
    pub(crate) async fn remove_unfinished_uploads(blobs: Blobs, clock: Clock) {
        while blobs.is_shared() {
            if let Err(error) = blobs.remove_unfinished(clock.now_ms()).await {
                tracing::warn!(%error, "unfinished uploads are left for another day");
            }
            tokio::time::sleep(UPLOADS_ROUND).await;
        }
        std::future::pending().await
    }

    /// Finishes what an earlier process left half done. Only for the process that holds the lock of the
    /// data directory, before it serves.
    pub(crate) async fn recover(&self) -> anyhow::Result<()> {
        // What other instances are at is theirs; when one dies its leases run out.
        if !self.db.is_shared() {
            self.jobs.take_over().await?;
        }
        if !self.blobs.is_shared() {
            self.blobs.remove_unfinished(self.clock.now_ms()).await?;
        }
        self.deployments.recover().await.context("deployments")?;
        self.deviceconnect
            .join(!self.bus.is_shared())
            .await
            .context("deviceconnect")?;
        self.tenantadm.recover().await.context("tenantadm")?;
        // A user whose address was saved here but not yet told to tenant administration.
        for tenant in self.tenantadm.all().await? {
            let id = ambidex_access::TenantId::new(tenant.id.as_str());
            for user in self.useradm.users(&id).await? {
                self.tenantadm
                    .user_saved(&tenant.id, &user.id, &user.email)
                    .await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Database;

    #[tokio::test]
    async fn health_tells_the_truth_of_a_stopped_database() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store {
            data_dir: dir.path().to_owned(),
            database: Database::File(dir.path().join("server.db")),
            artifacts: Artifacts::Dir(dir.path().join("artifacts")),
        };
        let services = Services::open(&store, Options::default()).await.unwrap();
        let internal = services.internal().unwrap();
        let get = |path: String| {
            let internal = internal.clone();
            async move {
                let request = Request::get(&path).body(Body::empty()).unwrap();
                let answer = internal.oneshot(request).await.unwrap();
                let status = answer.status().as_u16();
                let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
                    .await
                    .unwrap();
                (status, String::from_utf8(body.to_vec()).unwrap())
            }
        };
        const SERVICES: [&str; 6] = [
            "devauth",
            "inventory",
            "deployments",
            "useradm",
            "tenantadm",
            "auditlogs",
        ];
        for service in SERVICES {
            let base = format!("/api/internal/v1/{service}");
            assert_eq!(get(format!("{base}/health")).await.0, 204, "{service}");
        }
        services.db.close().await.unwrap();
        for service in SERVICES {
            let base = format!("/api/internal/v1/{service}");
            let (status, body) = get(format!("{base}/health")).await;
            assert_eq!(status, 503, "{service}: {body}");
            assert!(
                body.contains("database"),
                "{service} names no cause: {body}"
            );
            assert_eq!(get(format!("{base}/alive")).await.0, 204, "{service}");
        }
        // Everything else answers that it may be tried later.
        for path in [
            "devauth/tenants/t1/devices",
            "devauth/tenants/t1/devices/d1/status",
            "inventory/tenants/t1/devices/d1/groups",
            "deployments/tenants/t1/deployments",
            "useradm/tenants/t1/users",
            "tenantadm/tenants",
            "auditlogs/tenants/t1/logs",
        ] {
            let (status, body) = get(format!("/api/internal/v1/{path}")).await;
            assert_eq!(status, 503, "{path}: {body}");
            assert!(body.contains("try again later"), "{path}: {body}");
        }
        let login = Request::post("/api/management/v1/useradm/auth/login")
            .header("authorization", "Basic YUBiLmM6Y29ycmVjdCBob3JzZQ==")
            .body(Body::empty())
            .unwrap();
        let public = services.public().unwrap();
        assert_eq!(public.oneshot(login).await.unwrap().status(), 503);
        // Metrics go on with what is left.
        let (status, body) = get("/metrics".to_owned()).await;
        assert_eq!(status, 200);
        assert!(body.contains("process_resident_memory_bytes"));
        assert!(!body.contains("ambidex_devices{"));
    }
}
