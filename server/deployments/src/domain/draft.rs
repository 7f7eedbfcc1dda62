//! A deployment as asked for: parsed and checked, its targets not yet resolved.

use std::collections::BTreeSet;

use ambidex_wire::management::deployments::NewDeployment;

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
}

/// A deployment that passed every check which needs no other service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub name: String,
    pub artifact_name: String,
    pub targets: Targets,
    pub waves: Vec<Wave>,
    pub retries: u32,
    pub force_installation: bool,
}

/// Checks the body of `create_deployment` (`group` is `None`) or of `create_deployment_for_group`.
///
/// # Errors
/// 400 that names the wrong part.
pub fn parse(body: NewDeployment, group: Option<String>, now_ms: i64) -> Result<Draft, Error> {
    check(&body, group.is_some(), now_ms)
        .map_err(|error| match error {
            Error::Invalid(text) => Error::Invalid(format!("Validating request body: {text}")),
            other => other,
        })
        .and_then(|waves| {
            let targets = match group {
                Some(group) if group.is_empty() => {
                    return Err(Error::invalid("Missing group name"));
                }
                Some(group) => Targets::Group(group),
                None => match body.devices {
                    Some(devices) if !devices.is_empty() => {
                        Targets::Devices(devices.into_iter().collect())
                    }
                    _ => Targets::All,
                },
            };
            Ok(Draft {
                name: body.name,
                artifact_name: body.artifact_name,
                targets,
                waves,
                retries: body.retries.unwrap_or(0),
                force_installation: body.force_installation.unwrap_or(false),
            })
        })
}

fn check(body: &NewDeployment, for_group: bool, now_ms: i64) -> Result<Vec<Wave>, Error> {
    check_text("name", &body.name, NAME_CHARS_MAX)?;
    check_text(
        "artifact_name",
        &body.artifact_name,
        ARTIFACT_NAME_CHARS_MAX,
    )?;
    let all = body.all_devices.unwrap_or(false);
    let devices = body.devices.as_deref().unwrap_or(&[]);
    if for_group {
        if all || !devices.is_empty() {
            return Err(Error::invalid(
                "The deployment for group constructor should have neither list of devices nor \
                 all_devices flag set",
            ));
        }
    } else if devices.is_empty() && !all {
        return Err(Error::invalid(
            "Invalid deployments definition: provide list of devices or set all_devices flag",
        ));
    } else if !devices.is_empty() && all {
        // The spelling is the one that clients know.
        return Err(Error::invalid(
            "Invalid deployments definition: list of devices provided togheter with all_devices flag",
        ));
    }
    for (index, id) in devices.iter().enumerate() {
        check_text(&format!("devices: {index}"), id, DEVICE_ID_CHARS_MAX)?;
    }
    if body.retries.is_some_and(|retries| retries > RETRIES_MAX) {
        return Err(Error::invalid(format!(
            "retries: must be no greater than {RETRIES_MAX}."
        )));
    }
    phase::parse(&body.phases, now_ms)
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
        let draft = parse(body(), None, 0).unwrap();
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
            let error = parse(body, group, 0).unwrap_err().to_string();
            assert!(error.starts_with("Validating request body: "), "{error}");
            assert!(error.contains(text), "{error} lacks {text}");
        }
        let group = NewDeployment {
            devices: None,
            ..body()
        };
        assert_eq!(
            parse(group, Some(String::new()), 0)
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
        assert!(parse(body, None, 0).is_ok());
    }
}
