//! Numbers of devices.

use ambidex_access::TenantId;
use ambidex_wire::management::inventory::{DevicesByStatus, DevicesByTier, Statistics};

use super::predicate::{AttributeKey, Operand, Term, Test};
use super::reach::Reach;
use super::scope::Scope;
use super::search::Search;
use crate::Inventory;
use crate::error::InventoryError;
use crate::store::selection::Condition;

/// The identity attribute that names a device's tier; devices without it are standard ones.
const TIER: &str = "tier";

impl Inventory {
    /// Devices within reach by status and tier.
    ///
    /// # Errors
    /// The database failed.
    pub async fn statistics(
        &self,
        tenant: &TenantId,
        reach: &Reach,
    ) -> Result<Statistics, InventoryError> {
        Ok(Statistics {
            devices_by_status: DevicesByStatus {
                accepted: self.by_tier(tenant, reach, "accepted").await?,
                pending: self.by_tier(tenant, reach, "pending").await?,
            },
        })
    }

    async fn by_tier(
        &self,
        tenant: &TenantId,
        reach: &Reach,
        status: &str,
    ) -> Result<DevicesByTier, InventoryError> {
        let count = |tier: Option<&str>| {
            let search = Search {
                terms: tier.map(of_tier).into_iter().collect(),
                reach: reach.clone(),
                ..Search::default()
            };
            let status = Condition::StatusIn(vec![status.to_owned()]);
            async move { self.count_hits(tenant, &search, vec![status]).await }
        };
        let all = count(None).await?;
        let micro = count(Some("micro")).await?;
        let system = count(Some("system")).await?;
        Ok(DevicesByTier {
            standard: all.saturating_sub(micro + system),
            micro,
            system,
        })
    }
}

fn of_tier(tier: &str) -> Term {
    Term {
        key: AttributeKey {
            scope: Scope::Identity,
            name: TIER.to_owned(),
        },
        test: Test::Equal(Operand::Text(tier.to_owned())),
    }
}
