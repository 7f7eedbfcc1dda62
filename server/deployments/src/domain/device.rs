//! A device in a deployment: what its reports do to it.
//!
//! Pure: [`on_report`] decides; the caller writes the decision conditionally on the state it was
//! made from.

use ambidex_wire::deployments::{DeviceStatus, SUBSTATE_CHARS_MAX};

use crate::error::Error;

/// Where a device stands in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Targeted, has not asked yet.
    Waiting,
    /// Has asked and not finished.
    Active,
    /// Has finished.
    Done,
    /// Was targeted and will never be served.
    Closed,
}

impl State {
    /// The number in the database.
    pub const fn code(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Active => 1,
            Self::Done => 2,
            Self::Closed => 3,
        }
    }

    /// Reads the number in the database.
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Waiting),
            1 => Some(Self::Active),
            2 => Some(Self::Done),
            3 => Some(Self::Closed),
            _ => None,
        }
    }

    /// The state of a device that has asked and has this status.
    pub const fn of(status: DeviceStatus) -> Self {
        if status.is_final() {
            Self::Done
        } else {
            Self::Active
        }
    }
}

/// What a report is judged against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    pub status: DeviceStatus,
    /// Whether instructions were handed out since the last attempt ended.
    pub offered: bool,
    /// Attempts that have ended.
    pub attempts: u32,
    /// Attempts allowed beyond the first.
    pub retries: u32,
    /// Whether the deployment was aborted; its devices' rows may lag behind.
    pub aborted: bool,
}

/// What a report does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing: it repeats what is known.
    Repeat,
    /// The device gets this status.
    Become { status: DeviceStatus, attempts: u32 },
    /// The attempt failed, another one is left: back to the start.
    TryAgain { attempts: u32 },
}

/// Judges a device's report (`update_deployment_status`).
///
/// Any status may follow any other, also out of a final one, except out of `aborted` and
/// `decommissioned`: devices report late and repeatedly, and the last word counts.
///
/// # Errors
/// 404 when the device has never asked for the deployment; 409 when the deployment was aborted or
/// the device decommissioned.
pub fn on_report(standing: &Standing, reported: DeviceStatus) -> Result<Reaction, Error> {
    if matches!(standing.state, State::Waiting | State::Closed) {
        return Err(Error::RESOURCE_NOT_FOUND);
    }
    if standing.status == DeviceStatus::Decommissioned {
        return Err(Error::Conflict("Device decommissioned".to_owned()));
    }
    if standing.status == DeviceStatus::Aborted
        || (standing.aborted && standing.state == State::Active)
    {
        return Err(Error::Conflict("Deployment aborted".to_owned()));
    }
    if reported == standing.status {
        return Ok(Reaction::Repeat);
    }
    if reported == DeviceStatus::Failure && standing.state == State::Active {
        // A failure that is reported again, because the answer to the first report was lost, must
        // not cost the device its next attempt.
        if standing.status == DeviceStatus::Pending && standing.attempts > 0 && !standing.offered {
            return Ok(Reaction::Repeat);
        }
        if standing.attempts < standing.retries {
            return Ok(Reaction::TryAgain {
                attempts: standing.attempts + 1,
            });
        }
    }
    let ended = reported.is_final() && standing.state == State::Active;
    Ok(Reaction::Become {
        status: reported,
        attempts: standing.attempts.saturating_add(u32::from(ended)),
    })
}

/// Checks the length of a substate.
///
/// # Errors
/// 400 beyond [`SUBSTATE_CHARS_MAX`].
pub fn check_substate(substate: Option<&str>) -> Result<(), Error> {
    match substate {
        Some(text) if text.chars().count() > SUBSTATE_CHARS_MAX => Err(Error::invalid(format!(
            "substate: the length must be no more than {SUBSTATE_CHARS_MAX}."
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;
    use DeviceStatus::{
        Aborted, Decommissioned, Downloading, Failure, Installing, Pending, Success,
    };

    fn standing(status: DeviceStatus) -> Standing {
        Standing {
            state: State::of(status),
            status,
            offered: true,
            attempts: 0,
            retries: 0,
            aborted: false,
        }
    }

    #[test]
    fn any_status_follows_any_other_but_the_two_forced_ones() {
        for from in DeviceStatus::ALL {
            for to in DeviceStatus::ALL
                .into_iter()
                .filter(|to| to.is_reportable())
            {
                let reaction = on_report(&standing(from), to);
                if matches!(from, Aborted | Decommissioned) {
                    assert!(
                        matches!(reaction, Err(Error::Conflict(_))),
                        "{from} -> {to}"
                    );
                } else if from == to {
                    assert_eq!(reaction.unwrap(), Reaction::Repeat);
                } else {
                    assert!(
                        matches!(reaction.unwrap(), Reaction::Become { status, .. } if status == to),
                        "{from} -> {to}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_device_that_never_asked_is_no_part() {
        for state in [State::Waiting, State::Closed] {
            let standing = Standing {
                state,
                ..standing(Pending)
            };
            assert!(matches!(
                on_report(&standing, Success),
                Err(Error::NotFound(_))
            ));
        }
    }

    #[test]
    fn an_abort_is_felt_before_the_rows_are_cleaned() {
        let running = Standing {
            aborted: true,
            ..standing(Installing)
        };
        assert!(matches!(
            on_report(&running, Success),
            Err(Error::Conflict(_))
        ));
        let finished = Standing {
            aborted: true,
            ..standing(Success)
        };
        assert!(on_report(&finished, Failure).is_ok());
    }

    #[test]
    fn a_failure_uses_up_one_attempt_only_once() {
        let first = Standing {
            retries: 1,
            ..standing(Downloading)
        };
        assert_eq!(
            on_report(&first, Failure).unwrap(),
            Reaction::TryAgain { attempts: 1 }
        );
        let waiting = Standing {
            retries: 1,
            attempts: 1,
            offered: false,
            ..standing(Pending)
        };
        assert_eq!(on_report(&waiting, Failure).unwrap(), Reaction::Repeat);
        let second = Standing {
            retries: 1,
            attempts: 1,
            ..standing(Installing)
        };
        assert_eq!(
            on_report(&second, Failure).unwrap(),
            Reaction::Become {
                status: Failure,
                attempts: 2
            }
        );
    }

    #[test]
    fn substate_is_measured_in_characters() {
        assert!(check_substate(Some(&"ö".repeat(200))).is_ok());
        assert!(check_substate(Some(&"ö".repeat(201))).is_err());
        assert!(check_substate(None).is_ok());
    }
}
