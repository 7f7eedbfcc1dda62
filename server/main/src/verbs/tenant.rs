//! `ambidex-server tenant …`

use ambidex_access::TenantId;
use ambidex_tenantadm::Plan;
use ambidex_useradm::NewUser;
use anyhow::Context as _;

use super::password;
use crate::cli::{PlanName, TenantVerb};
use crate::config::Store;
use crate::services::{Options, Services};

pub(super) async fn run(store: Store, verb: TenantVerb) -> anyhow::Result<()> {
    match verb {
        TenantVerb::Create {
            name,
            email,
            password,
            plan,
        } => {
            let password = password::read(password)?;
            let services = Services::open(&store, Options::default()).await?;
            let plan = match plan {
                PlanName::Os => Plan::Os,
                PlanName::Professional => Plan::Professional,
                PlanName::Enterprise => Plan::Enterprise,
            };
            let tenant = services
                .tenantadm
                .create(&name, plan)
                .await
                .with_context(|| format!("cannot create the tenant {name}"))?;
            let id = TenantId::new(tenant.id.as_str());
            let user = NewUser::with_password(email.as_str(), password);
            if let Err(error) = services.useradm.create_user(&id, user).await {
                // A tenant that nobody can log in to is of no use.
                services.tenantadm.remove_unused(&tenant.id).await?;
                return Err(error).with_context(|| format!("cannot create the user {email}"));
            }
            services.db.close().await?;
            println!("{}", tenant.id);
        }
        TenantVerb::Show { id } => {
            let services = Services::open(&store, Options::default()).await?;
            let tenant = services
                .tenantadm
                .get(&id)
                .await
                .with_context(|| format!("cannot show the tenant {id}"))?;
            println!(
                "{}",
                serde_json::to_string_pretty(&ambidex_tenantadm::view(&tenant))?
            );
            services.db.close().await?;
        }
        TenantVerb::List => {
            let services = Services::open(&store, Options::default()).await?;
            for tenant in services.tenantadm.all().await? {
                println!(
                    "{}\t{}\t{}\t{}",
                    tenant.id,
                    tenant.status.name(),
                    tenant.plan.name(),
                    tenant.name
                );
            }
            services.db.close().await?;
        }
    }
    Ok(())
}
