//! `ambidex-server user …`

use ambidex_access::TenantId;
use ambidex_kit::rfc3339;
use ambidex_useradm::NewUser;
use anyhow::Context as _;

use super::password;
use crate::cli::UserVerb;
use crate::config::Store;
use crate::services::{Options, Services};

pub(super) async fn run(store: Store, verb: UserVerb) -> anyhow::Result<()> {
    match verb {
        UserVerb::Create {
            email,
            password,
            tenant,
            roles,
        } => {
            let password = password::read(password)?;
            let services = Services::open(&store, Options::default()).await?;
            let tenant = TenantId::new(tenant.unwrap_or_default());
            let new = NewUser {
                roles,
                ..NewUser::with_password(email.as_str(), password)
            };
            let id = services
                .useradm
                .create_user(&tenant, new)
                .await
                .with_context(|| format!("cannot create the user {email}"))?;
            services.db.close().await?;
            println!("{id}");
        }
        UserVerb::List { tenant } => {
            let services = Services::open(&store, Options::default()).await?;
            let tenants = match tenant {
                Some(id) => vec![id],
                None => {
                    let all = services.tenantadm.all().await?;
                    let named = all.into_iter().map(|tenant| tenant.id);
                    std::iter::once(String::new()).chain(named).collect()
                }
            };
            for tenant in tenants {
                for user in services
                    .useradm
                    .users(&TenantId::new(tenant.as_str()))
                    .await?
                {
                    let login = user.login_ms.map_or("never".to_owned(), rfc3339);
                    let tenant = if tenant.is_empty() { "-" } else { &tenant };
                    let roles = user.roles.join(",");
                    println!(
                        "{}\t{}\t{tenant}\tlast login {login}\t{roles}",
                        user.id, user.email
                    );
                }
            }
            services.db.close().await?;
        }
        UserVerb::SetPassword { email, password } => {
            let password = password::read(password)?;
            let services = Services::open(&store, Options::default()).await?;
            services
                .useradm
                .set_password(&email, password)
                .await
                .with_context(|| format!("cannot set the password of {email}"))?;
            services.db.close().await?;
        }
    }
    Ok(())
}
