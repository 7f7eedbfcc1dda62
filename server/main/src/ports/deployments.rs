//! What deployments need.

use std::sync::Arc;

use ambidex_access::TenantId;
use ambidex_deployments::ports::{self, PortError, Ports, SavedFilter};
use ambidex_inventory::InventoryError;
use ambidex_kit::BoxFuture;
use ambidex_wire::management::inventory::FilterPredicate;

use super::chain;

pub(crate) fn ports(inventory: ambidex_inventory::Inventory) -> Ports {
    let inventory = Arc::new(Inventory(inventory));
    Ports {
        inventory: Arc::clone(&inventory) as Arc<dyn ports::Inventory>,
        filters: inventory,
    }
}

struct Inventory(ambidex_inventory::Inventory);

fn failed(error: InventoryError) -> PortError {
    PortError(format!("inventory: {}", chain(&error)))
}

impl ports::Inventory for Inventory {
    fn accepted_devices<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        Box::pin(async move { self.0.accepted_devices(tenant).await.map_err(failed) })
    }

    fn devices_in_group<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        Box::pin(async move { self.0.devices_in_group(tenant, group).await.map_err(failed) })
    }

    fn groups_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, PortError>> {
        Box::pin(async move { self.0.groups_of(tenant, device_ids).await.map_err(failed) })
    }

    fn devices_with<'a>(
        &'a self,
        tenant: &'a TenantId,
        (scope, attribute): (&'a str, &'a str),
        value: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        Box::pin(async move {
            let term = FilterPredicate {
                scope: scope.to_owned(),
                attribute: attribute.to_owned(),
                operator: "$eq".to_owned(),
                value: value.into(),
            };
            let found = self.0.devices_matching(tenant, &[term]).await;
            let mut ids = found.map_err(failed)?;
            ids.truncate(limit);
            Ok(ids)
        })
    }
}

impl ports::Filters for Inventory {
    fn saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        filter_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SavedFilter>, PortError>> {
        Box::pin(async move {
            let filter = match self.0.get_filter(tenant, filter_id).await {
                Ok(filter) => filter,
                Err(InventoryError::FilterNotFound) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let devices = self.0.count_matching(tenant, &filter.terms).await;
            Ok(Some(SavedFilter {
                devices: devices.map_err(failed)?,
                filter,
            }))
        })
    }

    fn first_match<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_id: &'a str,
        terms: &'a [Vec<FilterPredicate>],
    ) -> BoxFuture<'a, Result<Option<usize>, PortError>> {
        Box::pin(async move {
            let found = self.0.first_match(tenant, device_id, terms).await;
            found.map_err(failed)
        })
    }
}
