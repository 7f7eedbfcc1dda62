//! Waves of a phased deployment: how many devices each takes and when it opens.
//!
//! Pure. The capacity itself is kept by the database: a device enters a phase through a conditional
//! increment.

use ambidex_wire::management::deployments::NewPhase;
use jiff::Timestamp;

use crate::error::Error;

/// A wave as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    pub id: String,
    /// Percentage of the targets, as shown.
    pub batch_size: u32,
    pub starts_ms: i64,
    /// Devices it takes; the last phase takes what the others leave.
    pub capacity: u64,
    /// Devices that have entered.
    pub device_count: u64,
}

/// A wave that passed the checks which need no number of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wave {
    batch_size: u32,
    starts_ms: i64,
}

/// Checks phases as asked for. A missing or past first start is "now".
///
/// # Errors
/// 400 when a later phase has no start, starts are not in order, a batch size is missing before the
/// last phase, or they sum up to more than 100.
pub fn parse(phases: &[NewPhase], now_ms: i64) -> Result<Vec<Wave>, Error> {
    let mut waves = Vec::with_capacity(phases.len());
    let mut sum = 0_u32;
    let mut earliest_ms = i64::MIN;
    for (index, phase) in phases.iter().enumerate() {
        let number = index + 1;
        let last = number == phases.len();
        let starts_ms = match phase.start_ts.as_deref() {
            None if index == 0 => now_ms,
            None => {
                return Err(Error::invalid(format!(
                    "phases: ({number}) start_ts: cannot be blank."
                )));
            }
            Some(text) => text
                .parse::<Timestamp>()
                .map_err(|_| {
                    Error::invalid(format!(
                        "phases: ({number}) start_ts: '{}' is no RFC 3339 time",
                        text.chars().take(64).collect::<String>()
                    ))
                })?
                .as_millisecond(),
        };
        if starts_ms < earliest_ms {
            return Err(Error::invalid(format!(
                "phases: ({number}) start_ts: must not be before the start of the previous phase."
            )));
        }
        earliest_ms = starts_ms;
        let batch_size = match phase.batch_size {
            Some(size) => size,
            None if last => 100_u32.saturating_sub(sum),
            None => {
                return Err(Error::invalid(format!(
                    "phases: ({number}) batch_size: cannot be blank before the last phase."
                )));
            }
        };
        sum = sum.saturating_add(batch_size);
        if sum > 100 {
            return Err(Error::invalid(
                "phases: batch sizes sum up to more than 100 percent.",
            ));
        }
        waves.push(Wave {
            batch_size,
            starts_ms: starts_ms.max(now_ms),
        });
    }
    Ok(waves)
}

/// Sizes the waves for `targets` devices: each takes its percentage rounded down, the last the rest.
///
/// # Errors
/// 400 when a phase would take no device.
pub fn size(
    waves: &[Wave],
    targets: u64,
    mut new_id: impl FnMut() -> String,
) -> Result<Vec<Phase>, Error> {
    let mut phases = Vec::with_capacity(waves.len());
    let mut left = targets;
    for (index, wave) in waves.iter().enumerate() {
        let last = index + 1 == waves.len();
        let capacity = if last {
            left
        } else {
            (u128::from(wave.batch_size) * u128::from(targets) / 100) as u64
        };
        if capacity == 0 {
            return Err(Error::invalid(format!(
                "Attempt to create a batch with zero devices not allowed. Batch: ({}) will be empty",
                index + 1
            )));
        }
        left = left.saturating_sub(capacity);
        phases.push(Phase {
            id: new_id(),
            batch_size: wave.batch_size,
            starts_ms: wave.starts_ms,
            capacity,
            device_count: 0,
        });
    }
    Ok(phases)
}

/// Opens the last wave for whoever is still to come: a deployment by filter does not know its devices
/// beforehand.
pub fn without_end(mut phases: Vec<Phase>) -> Vec<Phase> {
    if let Some(last) = phases.last_mut() {
        last.capacity = CAPACITY_MAX;
    }
    phases
}

/// More devices than there can be, and a number of either database engine.
const CAPACITY_MAX: u64 = i64::MAX as u64;

/// When the first wave opens.
pub fn opens_ms(waves: &[Wave]) -> Option<i64> {
    waves.first().map(|wave| wave.starts_ms)
}

/// The position of the phase that a waiting device may enter now. Phases add up: a later one takes
/// whoever still waits.
pub fn open(phases: &[Phase], now_ms: i64) -> Option<usize> {
    phases
        .iter()
        .position(|phase| phase.starts_ms <= now_ms && phase.device_count < phase.capacity)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use super::*;

    fn phase(batch_size: Option<u32>, start_ts: Option<&str>) -> NewPhase {
        NewPhase {
            batch_size,
            start_ts: start_ts.map(str::to_owned),
        }
    }

    const T1: &str = "2020-07-06T17:04:49.114046203+02:00";
    const T2: &str = "2020-07-06T18:04:49Z";
    const T3: &str = "2020-07-07T18:04:49Z";

    fn capacities(phases: &[NewPhase], targets: u64) -> Result<Vec<u64>, Error> {
        let sized = size(&parse(phases, 0)?, targets, || "id".to_owned())?;
        Ok(sized.iter().map(|phase| phase.capacity).collect())
    }

    #[test]
    fn sizes_round_down_and_the_last_takes_the_rest() {
        let phases = [
            phase(Some(13), None),
            phase(Some(17), Some(T2)),
            phase(Some(29), Some(T2)),
            phase(None, Some(T3)),
        ];
        assert_eq!(capacities(&phases, 101).unwrap(), [13, 17, 29, 42]);
        assert_eq!(capacities(&phases, 10).unwrap(), [1, 1, 2, 6]);
        assert_eq!(parse(&phases, 0).unwrap()[3].batch_size, 41);
        assert_eq!(capacities(&[phase(None, None)], 7).unwrap(), [7]);
    }

    #[test]
    fn an_empty_batch_is_refused_and_named() {
        let phases = [
            phase(Some(50), None),
            phase(Some(40), Some(T1)),
            phase(Some(5), Some(T2)),
            phase(None, Some(T3)),
        ];
        let error = capacities(&phases, 10).unwrap_err().to_string();
        assert!(
            error.contains("Attempt to create a batch with zero devices not allowed"),
            "{error}"
        );
        assert!(error.contains("Batch: (3) will be empty"), "{error}");
        assert!(capacities(&[phase(Some(100), None), phase(None, Some(T2))], 10).is_err());
    }

    #[test]
    fn malformed_phases_are_refused() {
        for (phases, word) in [
            (
                vec![phase(Some(10), None), phase(None, None)],
                "(2) start_ts: cannot be blank",
            ),
            (
                vec![phase(None, None), phase(None, Some(T1))],
                "(1) batch_size",
            ),
            (
                vec![phase(Some(60), None), phase(Some(60), Some(T1))],
                "more than 100",
            ),
            (
                vec![phase(Some(10), Some(T3)), phase(None, Some(T1))],
                "(2) start_ts: must not",
            ),
            (vec![phase(Some(10), Some("soon"))], "no RFC 3339 time"),
            (
                vec![phase(Some(u32::MAX), None), phase(Some(u32::MAX), Some(T1))],
                "more than 100",
            ),
        ] {
            let error = parse(&phases, 0).unwrap_err().to_string();
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }

    #[test]
    fn the_first_phase_with_room_is_open() {
        let sized = size(
            &parse(&[phase(Some(50), None), phase(None, Some(T2))], 5).unwrap(),
            4,
            || "id".to_owned(),
        );
        let mut phases = sized.unwrap();
        assert_eq!(open(&phases, 4), None);
        assert_eq!(open(&phases, 5), Some(0));
        phases[0].device_count = 2;
        assert_eq!(open(&phases, 5), None);
        assert_eq!(open(&phases, phases[1].starts_ms), Some(1));
    }
}
