//! Laying an augmented header over the original one.

use serde_json::{Map, Value};

use super::info::TypeInfo;
use crate::error::Error;

/// Provides and depends of the augment extend and override, its list of clears replaces.
pub(super) fn merge_type_info(base: &mut TypeInfo, augment: TypeInfo) {
    base.provides.extend(augment.provides);
    base.depends.extend(augment.depends);
    if augment.clears.is_some() {
        base.clears = augment.clears;
    }
}

/// Keys of the augment extend and override; a list stays a list and anything else stays no list.
pub(super) fn merge_meta_data(
    base: Option<Value>,
    augment: Option<Value>,
) -> Result<Option<Value>, Error> {
    let (Some(base), Some(augment)) = (&base, &augment) else {
        return Ok(augment.or(base));
    };
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut merged: Map<String, Value> = object(base);
    for (key, value) in object(augment) {
        if merged
            .get(&key)
            .is_some_and(|old| old.is_array() != value.is_array())
        {
            return Err(Error::malformed(
                "meta-data in header-augment.tar",
                format!("{key:?} is a list in one of the two meta-data and none in the other"),
            ));
        }
        merged.insert(key, value);
    }
    Ok(Some(Value::Object(merged)))
}
