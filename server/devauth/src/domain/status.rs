//! States of auth sets and devices, and which changes an operator may ask for. Pure.

use std::fmt;

/// State of one auth set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetStatus {
    Accepted,
    Preauthorized,
    Pending,
    Rejected,
}

/// State of a device: the highest among its sets (reference section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStatus {
    Accepted,
    Preauthorized,
    Pending,
    Rejected,
    NoAuth,
}

impl SetStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            SetStatus::Accepted => "accepted",
            SetStatus::Preauthorized => "preauthorized",
            SetStatus::Pending => "pending",
            SetStatus::Rejected => "rejected",
        }
    }

    pub fn parse(text: &str) -> Option<SetStatus> {
        Some(match text {
            "accepted" => SetStatus::Accepted,
            "preauthorized" => SetStatus::Preauthorized,
            "pending" => SetStatus::Pending,
            "rejected" => SetStatus::Rejected,
            _ => return None,
        })
    }
}

impl DeviceStatus {
    pub const ALL: [DeviceStatus; 5] = [
        DeviceStatus::Accepted,
        DeviceStatus::Preauthorized,
        DeviceStatus::Pending,
        DeviceStatus::Rejected,
        DeviceStatus::NoAuth,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            DeviceStatus::Accepted => "accepted",
            DeviceStatus::Preauthorized => "preauthorized",
            DeviceStatus::Pending => "pending",
            DeviceStatus::Rejected => "rejected",
            DeviceStatus::NoAuth => "noauth",
        }
    }

    pub fn parse(text: &str) -> Option<DeviceStatus> {
        DeviceStatus::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// The state of a device that has these sets.
    pub fn of(sets: impl IntoIterator<Item = SetStatus>) -> DeviceStatus {
        let mut best = DeviceStatus::NoAuth;
        for set in sets {
            let candidate = match set {
                SetStatus::Accepted => DeviceStatus::Accepted,
                SetStatus::Preauthorized => DeviceStatus::Preauthorized,
                SetStatus::Pending => DeviceStatus::Pending,
                SetStatus::Rejected => DeviceStatus::Rejected,
            };
            if candidate.rank() > best.rank() {
                best = candidate;
            }
        }
        best
    }

    fn rank(self) -> u8 {
        match self {
            DeviceStatus::Accepted => 4,
            DeviceStatus::Preauthorized => 3,
            DeviceStatus::Pending => 2,
            DeviceStatus::Rejected => 1,
            DeviceStatus::NoAuth => 0,
        }
    }
}

impl fmt::Display for DeviceStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What an operator's request means for a set in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The set is there already.
    Unchanged,
    Change,
    /// Preauthorized sets leave that state by the device's request or by removal only.
    Refused,
}

/// Decides an operator's change of one set (operation "Set Authentication Status").
pub fn decide(from: SetStatus, to: SetStatus) -> Decision {
    match (from, to) {
        (from, to) if from == to => Decision::Unchanged,
        (SetStatus::Preauthorized, _) | (_, SetStatus::Preauthorized) => Decision::Refused,
        _ => Decision::Change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SetStatus::{Accepted, Pending, Preauthorized, Rejected};

    #[test]
    fn a_device_has_the_highest_state_of_its_sets() {
        assert_eq!(DeviceStatus::of([]), DeviceStatus::NoAuth);
        assert_eq!(DeviceStatus::of([Rejected]), DeviceStatus::Rejected);
        assert_eq!(DeviceStatus::of([Rejected, Pending]), DeviceStatus::Pending);
        assert_eq!(
            DeviceStatus::of([Pending, Preauthorized]),
            DeviceStatus::Preauthorized
        );
        assert_eq!(
            DeviceStatus::of([Pending, Preauthorized, Accepted, Rejected]),
            DeviceStatus::Accepted
        );
    }

    #[test]
    fn operators_move_sets_between_the_three_open_states() {
        for from in [Pending, Rejected, Accepted] {
            for to in [Pending, Rejected, Accepted] {
                let expected = if from == to {
                    Decision::Unchanged
                } else {
                    Decision::Change
                };
                assert_eq!(decide(from, to), expected, "{from:?} -> {to:?}");
            }
            assert_eq!(decide(from, Preauthorized), Decision::Refused);
            assert_eq!(decide(Preauthorized, from), Decision::Refused);
        }
    }

    #[test]
    fn texts_are_those_of_the_interface() {
        for status in DeviceStatus::ALL {
            assert_eq!(DeviceStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(DeviceStatus::parse("decommissioned"), None);
        assert_eq!(SetStatus::parse("noauth"), None);
    }
}
