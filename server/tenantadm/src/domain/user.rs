//! Who belongs to which tenant.

use ambidex_db::DbError;
use ambidex_wire::management::tenantadm::{UserNew, UserUpdate};

use super::tenant;
use crate::{Inner, TenantadmError, store};

fn duplicate(error: DbError) -> TenantadmError {
    match error {
        DbError::UniqueViolation { .. } => {
            TenantadmError::Unprocessable("user name or id is duplicated".to_owned())
        }
        DbError::Conflict { .. } => TenantadmError::NotFound("user not found"),
        other => other.into(),
    }
}

fn check_name(name: &str) -> Result<String, TenantadmError> {
    if name.is_empty() || name.len() > 256 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(TenantadmError::Invalid(
            "name: must be 1 to 256 visible ASCII characters".to_owned(),
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn login_text(
    login: Option<&serde_json::Map<String, serde_json::Value>>,
) -> Result<Option<String>, TenantadmError> {
    login
        .map(serde_json::to_string)
        .transpose()
        .map_err(|e| TenantadmError::Invalid(e.to_string()))
}

pub(crate) async fn saved(
    inner: &Inner,
    tenant: &str,
    id: &str,
    name: &str,
) -> Result<(), TenantadmError> {
    inner
        .db
        .apply(vec![store::user::save(tenant, id, name)])
        .await
        .map_err(duplicate)?;
    Ok(())
}

pub(crate) async fn create(inner: &Inner, new: UserNew) -> Result<String, TenantadmError> {
    let name = check_name(&new.name)?;
    let login = login_text(new.login.as_ref())?;
    tenant::get(inner, &new.tenant_id).await?;
    let id = match new.id {
        Some(id) if !id.is_empty() && id.len() <= 64 => id,
        None => ambidex_kit::new_id().to_string(),
        Some(_) => {
            return Err(TenantadmError::Invalid(
                "id: must be 1 to 64 bytes".to_owned(),
            ));
        }
    };
    inner
        .db
        .apply(vec![store::user::insert(&new.tenant_id, &id, &name, login)])
        .await
        .map_err(duplicate)?;
    Ok(id)
}

pub(crate) async fn update(
    inner: &Inner,
    tenant_id: &str,
    id: &str,
    change: UserUpdate,
) -> Result<(), TenantadmError> {
    if change.name.is_none() && change.login.is_none() {
        return Err(TenantadmError::Invalid(
            "no update information provided".to_owned(),
        ));
    }
    let name = change.name.as_deref().map(check_name).transpose()?;
    let login = login_text(change.login.as_ref())?;
    inner
        .db
        .apply(vec![store::user::update(tenant_id, id, name, login)])
        .await
        .map_err(duplicate)?;
    Ok(())
}
