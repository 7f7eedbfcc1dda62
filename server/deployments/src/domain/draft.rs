//! A deployment as asked for: parsed and checked, its targets not yet resolved.

use std::collections::BTreeSet;

use ambidex_wire::management::deployments::NewDeployment;

use super::control_map;
use super::phase::{self, Wave};
use crate::error::Error;

/// Longest deployment name, in characters.
pub const NAME_CHARS_MAX: usize = 256;
/// Longest artifact name, in characters: as in an artifact's header.
pub const ARTIFACT_NAME_CHARS_MAX: usize = 4096;
/// Longest device id, in characters. Ids of the server have 36; the specification allows any string.
pub const DEVICE_ID_CHARS_MAX: usize = 256;
/// More attempts than this help no device.
pub const RETRIES_MAX: u32 = 100;

/// Whom a deployment is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    Devices(BTreeSet<String>),
    /// Every accepted device at the moment of creation.
    All,
    /// The accepted devices of a group at the moment of creation.
    Group(String),
    /// Whatever accepted devices meet a saved filter, now or later.
    Filter {
        id: String,
        /// The deployment finishes when so many have finished.
        max_devices: Option<u64>,
    },
}

/// Which operation asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Listed or all devices.
    Devices,
    /// The devices of this group.
    Group(String),
    /// The devices that meet a filter (version 2).
    Filter,
}

/// A deployment that passed every check which needs no other service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The id that the deployment will have.
    pub id: String,
    pub name: String,
    pub artifact_name: String,
    pub targets: Targets,
    pub waves: Vec<Wave>,
    pub retries: u32,
    pub force_installation: bool,
    /// Where devices are to pause, as JSON.
    pub control_map: Option<String>,
}

/// Checks the body of one of the operations that create a deployment, which will have the id `id`.
///
/// # Errors
/// 400 that names the wrong part.
pub fn parse(body: NewDeployment, scope: Scope, id: String, now_ms: i64) -> Result<Draft, Error> {
    check(&body, &scope, &id, now_ms)
        .map_err(|error| match error {
            Error::Invalid(text) => Error::Invalid(format!("Validating request body: {text}")),
            other => other,
        })
        .and_then(|(waves, control_map)| {
            let targets = match scope {
                Scope::Group(group) if group.is_empty() => {
                    return Err(Error::invalid("Missing group name"));
                }
                Scope::Group(group) => Targets::Group(group),
                Scope::Filter => Targets::Filter {
                    id: body.filter_id.unwrap_or_default(),
                    max_devices: body.max_devices.filter(|max| *max > 0).map(u64::from),
                },
                Scope::Devices => match body.devices {
                    Some(devices) if !devices.is_empty() => {
                        Targets::Devices(devices.into_iter().collect())
                    }
                    _ => Targets::All,
                },
            };
            Ok(Draft {
                id,
                name: body.name,
                artifact_name: body.artifact_name,
                targets,
                waves,
                retries: body.retries.unwrap_or(0),
                force_installation: body.force_installation.unwrap_or(false),
                control_map,
            })
        })
}

fn check(
    body: &NewDeployment,
    scope: &Scope,
    id: &str,
    now_ms: i64,
) -> Result<(Vec<Wave>, Option<String>), Error> {
    check_text("name", &body.name, NAME_CHARS_MAX)?;
    check_text(
        "artifact_name",
        &body.artifact_name,
        ARTIFACT_NAME_CHARS_MAX,
    )?;
    let all = body.all_devices.unwrap_or(false);
    let devices = body.devices.as_deref().unwrap_or(&[]);
    match scope {
        Scope::Group(_) if all || !devices.is_empty() => {
            return Err(Error::invalid(
                "The deployment for group constructor should have neither list of devices nor \
                 all_devices flag set",
            ));
        }
        Scope::Filter => {
            check_text(
                "filter_id",
                body.filter_id.as_deref().unwrap_or_default(),
                DEVICE_ID_CHARS_MAX,
            )?;
            if all || !devices.is_empty() {
                return Err(Error::invalid(
                    "The deployment for a filter should have neither list of devices nor \
                     all_devices flag set",
                ));
            }
        }
        Scope::Devices if devices.is_empty() && !all => {
            return Err(Error::invalid(
                "Invalid deployments definition: provide list of devices or set all_devices flag",
            ));
        }
        // The spelling is the one that clients know.
        Scope::Devices if !devices.is_empty() && all => {
            return Err(Error::invalid(
                "Invalid deployments definition: list of devices provided togheter with all_devices flag",
            ));
        }
        Scope::Group(_) | Scope::Devices => {}
    }
    for (index, id) in devices.iter().enumerate() {
        check_text(&format!("devices: {index}"), id, DEVICE_ID_CHARS_MAX)?;
    }
    if body.retries.is_some_and(|retries| retries > RETRIES_MAX) {
        return Err(Error::invalid(format!(
            "retries: must be no greater than {RETRIES_MAX}."
        )));
    }
    Ok((
        phase::parse(&body.phases, now_ms)?,
        control_map::parse(body.update_control_map.as_ref(), id)?,
    ))
}

/// Checks that a text has 1 to `chars_max` characters.
///
/// # Errors
/// 400 that names `field`.
pub fn check_text(field: &str, text: &str, chars_max: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::invalid(format!("{field}: cannot be blank.")));
    }
    // Characters are counted only where bytes may exceed the limit.
    if text.len() > chars_max && text.chars().count() > chars_max {
        return Err(Error::invalid(format!(
            "{field}: the length must be between 1 and {chars_max}."
        )));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    const ID: &str = "d1";

    fn body() -> NewDeployment {
        NewDeployment {
            name: "n".to_owned(),
            artifact_name: "a".to_owned(),
            devices: Some(vec!["d2".to_owned(), "d1".to_owned(), "d2".to_owned()]),
            ..NewDeployment::default()
        }
    }

    #[test]
    fn devices_are_taken_once() {
        let draft = parse(body(), Scope::Devices, ID.to_owned(), 0).unwrap();
        let Targets::Devices(devices) = draft.targets else {
            unreachable!("devices were given")
        };
        assert_eq!(devices.into_iter().collect::<Vec<_>>(), ["d1", "d2"]);
    }

    #[test]
    fn wrong_bodies_are_named() {
        let all = Some(true);
        for (body, group, text) in [
            (
                NewDeployment {
                    name: String::new(),
                    ..body()
                },
                None,
                "name: cannot be blank.",
            ),
            (
                NewDeployment {
                    name: "x".repeat(257),
                    ..body()
                },
                None,
                "name: the length must be",
            ),
            (
                NewDeployment {
                    artifact_name: String::new(),
                    ..body()
                },
                None,
                "artifact_name: cannot",
            ),
            (
                NewDeployment {
                    devices: None,
                    ..body()
                },
                None,
                "provide list of devices or set",
            ),
            (
                NewDeployment {
                    devices: Some(vec![]),
                    ..body()
                },
                None,
                "provide list of devices or set",
            ),
            (
                NewDeployment {
                    all_devices: all,
                    ..body()
                },
                None,
                "togheter with all_devices",
            ),
            (
                NewDeployment {
                    devices: Some(vec![String::new()]),
                    ..body()
                },
                None,
                "devices: 0",
            ),
            (
                NewDeployment {
                    retries: Some(101),
                    ..body()
                },
                None,
                "retries",
            ),
            (body(), Some("g".to_owned()), "neither list of devices nor"),
            (
                NewDeployment {
                    devices: None,
                    all_devices: all,
                    ..body()
                },
                Some("g".to_owned()),
                "neither",
            ),
        ] {
            let scope = group.map_or(Scope::Devices, Scope::Group);
            let error = parse(body, scope, ID.to_owned(), 0)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("Validating request body: "), "{error}");
            assert!(error.contains(text), "{error} lacks {text}");
        }
        let group = NewDeployment {
            devices: None,
            ..body()
        };
        assert_eq!(
            parse(group, Scope::Group(String::new()), ID.to_owned(), 0)
                .unwrap_err()
                .to_string(),
            "Missing group name"
        );
    }

    #[test]
    fn a_name_of_256_characters_fits() {
        let body = NewDeployment {
            name: "ü".repeat(256),
            ..body()
        };
        assert!(parse(body, Scope::Devices, ID.to_owned(), 0).is_ok());
    }

    #[test]
    fn a_filter_is_needed_where_one_is_asked_for() {
        let body = |filter_id: Option<&str>| NewDeployment {
            name: "n".to_owned(),
            artifact_name: "a".to_owned(),
            filter_id: filter_id.map(str::to_owned),
            max_devices: Some(0),
            ..NewDeployment::default()
        };
        let parse = |body| parse(body, Scope::Filter, ID.to_owned(), 0);
        assert_eq!(
            parse(body(Some("f"))).unwrap().targets,
            Targets::Filter {
                id: "f".to_owned(),
                max_devices: None
            }
        );
        for wrong in [
            body(None),
            body(Some("")),
            NewDeployment {
                all_devices: Some(true),
                ..body(Some("f"))
            },
        ] {
            assert!(parse(wrong).is_err());
        }
    }
}
