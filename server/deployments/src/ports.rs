//! What this service needs from its neighbours; whoever wires the server implements it.

use ambidex_access::TenantId;
use ambidex_kit::BoxFuture;
use ambidex_wire::management::inventory::{Filter, FilterPredicate};

/// A neighbour did not answer; the text says who and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The inventory service as this service sees it.
pub trait Inventory: Send + Sync {
    /// Ids of all devices whose identity status is accepted.
    fn accepted_devices<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>>;

    /// Ids of the accepted devices in a group; none when there is no such group.
    fn devices_in_group<'a>(
        &'a self,
        tenant: &'a TenantId,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>>;

    /// The group of each of these devices, in their order; `None` for one without a group and for one
    /// that is not there.
    fn groups_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, PortError>>;

    /// Ids of devices with this value of an attribute, at most `limit`.
    fn devices_with<'a>(
        &'a self,
        tenant: &'a TenantId,
        attribute: (&'a str, &'a str),
        value: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, PortError>>;
}

/// A saved filter, and how many accepted devices meet it now.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedFilter {
    pub filter: Filter,
    pub devices: u64,
}

/// The saved filters of the inventory service as this service sees them.
pub trait Filters: Send + Sync {
    /// A saved filter; `None` when there is none with this id.
    fn saved<'a>(
        &'a self,
        tenant: &'a TenantId,
        filter_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SavedFilter>, PortError>>;

    /// The position of the first list of conditions that the device meets, all of them, being accepted.
    /// Called by polls: answers from one read of the device.
    fn first_match<'a>(
        &'a self,
        tenant: &'a TenantId,
        device_id: &'a str,
        terms: &'a [Vec<FilterPredicate>],
    ) -> BoxFuture<'a, Result<Option<usize>, PortError>>;
}

/// The neighbours.
#[derive(Clone)]
pub struct Ports {
    pub inventory: std::sync::Arc<dyn Inventory>,
    pub filters: std::sync::Arc<dyn Filters>,
}
