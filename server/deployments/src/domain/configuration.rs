//! Deployments of a configuration to one device.
//!
//! The artifact is not stored: it is made when the device fetches it, always the same bytes for the same
//! deployment.

use std::collections::BTreeMap;
use std::io::Cursor;

use ambidex_access::TenantId;
use ambidex_artifact::{ArtifactSpec, Payload, write};
use ambidex_wire::management::deployments::NewConfigurationDeployment;
use serde_json::{Map, Value};

use super::creation::{self, Plan};
use super::deployment::CONFIGURATION;
use super::draft::{DEVICE_ID_CHARS_MAX, NAME_CHARS_MAX, RETRIES_MAX, check_text};
use super::{control_map, deployment::Deployment};
use crate::Context;
use crate::error::Error;
use crate::store;

/// Names what installs the artifact.
const PAYLOAD_TYPE: &str = "mender-configure";
/// Where the device notes which configuration it has.
const PROVIDES: &str = "data-partition.mender-configure.version";
/// What installing it clears.
const CLEARS: &str = "data-partition.mender-configure.*";

/// Creates a deployment with an id of the caller's choice.
///
/// # Errors
/// 400 that names what is wrong, 409 when there is such a deployment.
pub async fn create(
    context: &Context,
    tenant: &TenantId,
    id: String,
    device_id: String,
    body: NewConfigurationDeployment,
) -> Result<(), Error> {
    let invalid = |error: Error| match error {
        Error::Invalid(text) => Error::Invalid(format!("Validating request body: {text}")),
        other => other,
    };
    check_text("name", &body.name, NAME_CHARS_MAX).map_err(invalid)?;
    check_text("device_id", &device_id, DEVICE_ID_CHARS_MAX).map_err(invalid)?;
    if body.retries > RETRIES_MAX {
        let text = format!("retries: must be no greater than {RETRIES_MAX}.");
        return Err(invalid(Error::Invalid(text)));
    }
    let configuration = match body.configuration {
        Value::Null => return Err(invalid(Error::invalid("configuration: cannot be blank."))),
        Value::String(text) => text,
        other => other.to_string(),
    };
    document(&configuration).map_err(invalid)?;
    let map = control_map::parse(body.update_control_map.as_ref(), &id).map_err(invalid)?;
    let conflict = || Error::Conflict("Deployment with given ID already exists".to_owned());
    if store::deployment::number(&context.db, tenant, &id)
        .await?
        .is_some()
    {
        return Err(conflict());
    }
    let deployment = Deployment {
        kind: CONFIGURATION.to_owned(),
        max_devices: 1,
        target_count: 1,
        retries: body.retries,
        control_map: map,
        configuration: Some(configuration),
        ..creation::blank(id, body.name.clone(), body.name)
    };
    let ids = std::slice::from_ref(&device_id);
    let groups = context.ports.inventory.groups_of(tenant, ids).await?;
    let plan = Plan {
        deployment,
        phases: Vec::new(),
        groups: groups.into_iter().flatten().collect(),
        targets: vec![device_id],
        starts_ms: None,
        audit: None,
    };
    match creation::run(context, tenant, plan).await {
        Err(Error::Db(ambidex_db::DbError::UniqueViolation { .. })) => Err(conflict()),
        outcome => outcome,
    }
}

/// The configuration as the document for the update module.
fn document(configuration: &str) -> Result<Map<String, Value>, Error> {
    match serde_json::from_str(configuration) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Error::invalid("configuration: must be a JSON object.")),
    }
}

/// The artifact that brings a configuration to devices of a type.
///
/// # Errors
/// 404 when there is no such deployment of a configuration or the device is none of its targets.
pub async fn artifact(
    context: &Context,
    tenant: &TenantId,
    id: &str,
    device_type: &str,
    device_id: &str,
) -> Result<Vec<u8>, Error> {
    let deployment = store::deployment::find(&context.db, tenant, id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    store::device::find(&context.db, tenant, id, device_id)
        .await?
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    let configuration = deployment
        .configuration
        .as_deref()
        .ok_or(Error::RESOURCE_NOT_FOUND)?;
    let name = deployment.artifact_name.as_str();
    let payload = Payload::Module(PAYLOAD_TYPE.to_owned());
    let mut spec = ArtifactSpec::new(payload, name, vec![device_type.to_owned()]);
    spec.type_provides = BTreeMap::from([(PROVIDES.to_owned(), name.to_owned())]);
    spec.clears_provides = Some(vec![CLEARS.to_owned()]);
    spec.meta_data = Some(document(configuration)?);
    let mut file = Cursor::new(Vec::new());
    write(&spec, &[], None, &mut file, &mut |_| ())
        .map_err(|error| Error::Internal(format!("writing a configuration artifact: {error}")))?;
    Ok(file.into_inner())
}
