//! Bodies of the management API, a module a service.

pub mod auditlogs;
pub mod deployments;
pub mod devauth;
pub mod deviceconfig;
pub mod deviceconnect;
pub mod inventory;
pub mod tenantadm;
pub mod useradm;
pub mod workflows;
