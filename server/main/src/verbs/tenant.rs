//! `ambidex-server tenant …`

use ambidex_access::TenantId;
use ambidex_tenantadm::{Plan, Status};
use ambidex_wire::management::tenantadm::{Addon, ApiBurst, ApiLimits, ApiQuota, TenantUpdate};
use anyhow::{Context as _, bail};

use super::password;
use crate::cli::{AddonName, LimitArgs, PlanName, TenantVerb};
use crate::config::Store;
use crate::services::{Options, Services};

pub(super) async fn run(store: Store, verb: TenantVerb) -> anyhow::Result<()> {
    let services = Services::open(&store, Options::default()).await?;
    let outcome = act(&services, verb).await;
    services.db.close().await?;
    outcome
}

async fn act(services: &Services, verb: TenantVerb) -> anyhow::Result<()> {
    let tenantadm = &services.tenantadm;
    match verb {
        TenantVerb::Create {
            name,
            email,
            password,
            plan,
        } => {
            let password = password::read(password)?;
            let tenant = tenantadm
                .create_with_user(&name, plan_of(plan), &email, &password)
                .await
                .with_context(|| {
                    format!("cannot create the tenant {name} with the user {email}")
                })?;
            println!("{}", tenant.id);
        }
        TenantVerb::Show { id } => {
            let tenant = tenantadm
                .get(&id)
                .await
                .with_context(|| format!("cannot show the tenant {id}"))?;
            let view = ambidex_tenantadm::view(&tenant);
            println!("{}", serde_json::to_string_pretty(&view)?);
        }
        TenantVerb::List => {
            for tenant in tenantadm.all().await? {
                let asks = tenant.requested_plan.map_or(String::new(), |plan| {
                    format!("\tasks for plan {}", plan.name())
                });
                let (id, status) = (&tenant.id, tenant.status.name());
                println!(
                    "{id}\t{status}\t{}\t{}{asks}",
                    tenant.plan.name(),
                    tenant.name
                );
            }
        }
        TenantVerb::Suspend { id } => tenantadm
            .set_status(&id, Status::Suspended)
            .await
            .with_context(|| format!("cannot suspend the tenant {id}"))?,
        TenantVerb::Activate { id } => tenantadm
            .set_status(&id, Status::Active)
            .await
            .with_context(|| format!("cannot activate the tenant {id}"))?,
        TenantVerb::SetPlan { id, plan, addons } => {
            let update = TenantUpdate {
                plan: Some(plan_of(plan).name().to_owned()),
                // Whoever has a plan is not on trial any more.
                trial: Some(false),
                trial_expiration: Some(None),
                addons: addons.map(|wanted| addons_of(&wanted)),
                ..TenantUpdate::default()
            };
            tenantadm
                .update(&id, update)
                .await
                .with_context(|| format!("cannot set the plan of the tenant {id}"))?;
        }
        TenantVerb::SetLimits { id, limits } => set_limits(services, &id, limits)
            .await
            .with_context(|| format!("cannot set the limits of the tenant {id}"))?,
    }
    Ok(())
}

fn plan_of(name: PlanName) -> Plan {
    match name {
        PlanName::Os => Plan::Os,
        PlanName::Professional => Plan::Professional,
        PlanName::Enterprise => Plan::Enterprise,
    }
}

/// All add-ons, those that are named switched on.
fn addons_of(wanted: &[AddonName]) -> Vec<Addon> {
    [
        (AddonName::Configure, "configure"),
        (AddonName::Troubleshoot, "troubleshoot"),
        (AddonName::Monitor, "monitor"),
    ]
    .map(|(addon, name)| Addon {
        name: name.to_owned(),
        enabled: wanted.contains(&addon),
    })
    .into()
}

async fn set_limits(services: &Services, id: &str, limits: LimitArgs) -> anyhow::Result<()> {
    let tenant = services.tenantadm.get(id).await?;
    let mut api_limits = tenant.api_limits;
    for (kind, quota, bursts) in [
        (
            &mut api_limits.management,
            limits.management_quota,
            limits.management_bursts,
        ),
        (
            &mut api_limits.devices,
            limits.device_quota,
            limits.device_bursts,
        ),
    ] {
        change(kind, quota.as_deref(), bursts.as_deref())?;
    }
    let update = TenantUpdate {
        api_limits: Some(api_limits),
        ..TenantUpdate::default()
    };
    services.tenantadm.update(id, update).await?;
    if let Some(devices) = limits.devices {
        let tenant = TenantId::new(id);
        services.devauth.set_device_limit(&tenant, devices).await?;
    }
    Ok(())
}

fn change(
    limits: &mut ApiLimits,
    quota: Option<&str>,
    bursts: Option<&[String]>,
) -> anyhow::Result<()> {
    if let Some(text) = quota {
        limits.quota = quota_of(text)?;
    }
    if let Some(texts) = bursts {
        let rules = texts.iter().filter(|text| *text != "none");
        limits.bursts = rules.map(|text| burst_of(text)).collect::<Result<_, _>>()?;
    }
    Ok(())
}

/// `CALLS/SECONDS` or `none`.
fn quota_of(text: &str) -> anyhow::Result<ApiQuota> {
    if text == "none" {
        return Ok(ApiQuota::default());
    }
    let parsed = text
        .split_once('/')
        .and_then(|(calls, seconds)| Some((calls.parse().ok()?, seconds.parse().ok()?)));
    match parsed {
        Some((max_calls, interval_sec)) if interval_sec > 0 => Ok(ApiQuota {
            max_calls,
            interval_sec,
        }),
        _ => bail!("{text:?} is no quota: write CALLS/SECONDS, for instance 100/60, or none"),
    }
}

/// `METHOD PATH SECONDS`.
fn burst_of(text: &str) -> anyhow::Result<ApiBurst> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [action, uri, seconds] = words[..]
        && let Ok(min_interval_sec) = seconds.parse()
    {
        return Ok(ApiBurst {
            action: action.to_ascii_uppercase(),
            uri: uri.to_owned(),
            min_interval_sec,
        });
    }
    bail!("{text:?} is no burst rule: write METHOD PATH SECONDS, or none")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_one_word_or_three() {
        let quota = quota_of("100/60").unwrap();
        assert_eq!((quota.max_calls, quota.interval_sec), (100, 60));
        assert_eq!(quota_of("none").unwrap(), ApiQuota::default());
        for bad in ["", "100", "100/0", "-1/60", "a/b"] {
            assert!(quota_of(bad).is_err(), "{bad}");
        }
        let burst = burst_of("post /api/devices/v1/x 10").unwrap();
        assert_eq!(
            (burst.action.as_str(), burst.min_interval_sec),
            ("POST", 10)
        );
        assert!(burst_of("POST /x").is_err() && burst_of("POST /x y").is_err());
    }
}
