//! The maintenance window: when the agent may begin to download, install or reboot.
//!
//! Local times of days of the week. Pure but for the reading of the time zone, which may change while the agent runs.

use std::{path::PathBuf, time::Duration};

use jiff::{
    Timestamp, ToSpan as _, Zoned,
    civil::{Time, Weekday},
    tz::TimeZone,
};

/// No honest time zone file is larger.
const ZONE_BYTES_MAX: u64 = 256 * 1024;

const MINUTES_OF_DAY: u16 = 24 * 60;

/// In the order of `days` of a [`Span`].
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When the agent may work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    spans: Vec<Span>,
    zone: Zone,
    pub download: bool,
    pub install: bool,
    pub reboot: bool,
    /// The window stays closed until the system's clock was set by a time service.
    pub needs_synchronised_clock: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Zone {
    Utc,
    /// A file in the format of the zone database; UTC where it is missing, as everywhere.
    File(PathBuf),
}

/// From a minute of some days to another, which is on the next day when it is not later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    from: u16,
    until: u16,
}

impl Window {
    /// Understands spans like `Mon-Fri 22:00-05:00`, `Sat,Sun 00:00-24:00` or `01:00-03:00`; the zone is `local`, `UTC` or
    /// a name of the zone database. All phases wait for the window until told otherwise.
    ///
    /// # Errors
    /// What is wrong, to follow the key's name.
    pub(crate) fn parse(times: &[String], zone: Option<&str>) -> Result<Self, String> {
        if times.is_empty() {
            return Err("has no times; give for example [\"Mon-Fri 22:00-05:00\"]".into());
        }
        let spans: Result<Vec<_>, _> = times.iter().map(|text| Span::parse(text)).collect();
        let zone = match zone.unwrap_or("local") {
            "local" => Zone::File("/etc/localtime".into()),
            "UTC" => Zone::Utc,
            name if name.split('/').any(|part| part.is_empty() || part == "..") => {
                return Err(format!("names the time zone '{name}', which is none"));
            }
            name => {
                let file = PathBuf::from("/usr/share/zoneinfo").join(name);
                if !file.is_file() {
                    return Err(format!(
                        "names the time zone '{name}', but '{}' does not exist: install the zone database, or use \"local\" or \"UTC\"",
                        file.display()
                    ));
                }
                Zone::File(file)
            }
        };
        Ok(Self {
            spans: spans?,
            zone,
            download: true,
            install: true,
            reboot: true,
            needs_synchronised_clock: true,
        })
    }

    /// How long until the window opens; `None` when it is open.
    #[must_use]
    pub fn opens_in(&self, now: Timestamp) -> Option<Duration> {
        self.opens_after(&now.to_zoned(self.zone.load()))
    }

    fn opens_after(&self, now: &Zoned) -> Option<Duration> {
        let minute =
            u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs());
        if self
            .spans
            .iter()
            .any(|span| span.holds(now.weekday(), minute))
        {
            return None;
        }
        let openings = (0..=7).flat_map(|ahead| {
            let date = now.date().checked_add(i64::from(ahead).days()).ok();
            self.spans.iter().filter_map(move |span| {
                let date = date.filter(|date| span.is_on(date.weekday()))?;
                let hour = i8::try_from(span.from / 60).ok()?;
                let time = Time::new(hour, i8::try_from(span.from % 60).ok()?, 0, 0).ok()?;
                date.to_datetime(time)
                    .to_zoned(now.time_zone().clone())
                    .ok()
            })
        });
        let wait = openings
            .filter(|opening| opening > now)
            .min()
            .and_then(|opening| Duration::try_from(now.duration_until(&opening)).ok());
        // never zero, and never nothing: who waits looks again
        Some(
            wait.unwrap_or(Duration::from_secs(3600))
                .max(Duration::from_secs(1)),
        )
    }
}

impl Zone {
    fn load(&self) -> TimeZone {
        let Self::File(file) = self else {
            return TimeZone::UTC;
        };
        match ambidex_platform::fs::read_if_present(file, ZONE_BYTES_MAX) {
            Ok(Some(bytes)) => TimeZone::tzif("", &bytes).unwrap_or_else(|error| {
                log::warn!(
                    "'{}' is no time zone ({error}); UTC is used",
                    file.display()
                );
                TimeZone::UTC
            }),
            Ok(None) => TimeZone::UTC,
            Err(error) => {
                log::warn!("{error}; UTC is used");
                TimeZone::UTC
            }
        }
    }
}

impl Span {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "holds '{text}', which is not understood; give for example \"Mon-Fri 22:00-05:00\""
            )
        };
        let (days, times) = match text.trim().rsplit_once(char::is_whitespace) {
            Some((days, times)) => (days_of(days).ok_or_else(wrong)?, times),
            None => ([true; 7], text.trim()),
        };
        let (from, until) = times.split_once('-').ok_or_else(wrong)?;
        let from = minute_of(from).ok_or_else(wrong)?;
        let until = minute_of(until).ok_or_else(wrong)?;
        if from == MINUTES_OF_DAY || from == until {
            return Err(wrong());
        }
        Ok(Self { days, from, until })
    }

    fn is_on(&self, day: Weekday) -> bool {
        self.days[usize::from(day.to_monday_zero_offset().unsigned_abs())]
    }

    fn holds(&self, day: Weekday, minute: u16) -> bool {
        if self.until > self.from {
            return self.is_on(day) && (self.from..self.until).contains(&minute);
        }
        (self.is_on(day) && minute >= self.from)
            || (self.is_on(day.previous()) && minute < self.until)
    }
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let index = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter().position(|day| *day == name)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        match part.split_once('-') {
            None => days[index(part)?] = true,
            Some((first, last)) => {
                let (mut day, last) = (index(first)?, index(last)?);
                while day != last {
                    days[day] = true;
                    day = (day + 1) % DAYS.len();
                }
                days[last] = true;
            }
        }
    }
    Some(days)
}

/// `22:00`; `24:00` is the end of a day.
fn minute_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    if minutes.len() != 2 || hours.is_empty() || hours.len() > 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= MINUTES_OF_DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(times: &[&str]) -> Result<Window, String> {
        let times: Vec<String> = times.iter().map(|text| (*text).to_owned()).collect();
        Window::parse(&times, Some("UTC"))
    }

    /// Minutes until it opens at a local time; 27 November 2026 is a Friday.
    fn minutes(window: &Window, at: &str, zone: &TimeZone) -> Option<u64> {
        let now: jiff::civil::DateTime = at.parse().unwrap();
        let wait = window.opens_after(&now.to_zoned(zone.clone()).unwrap());
        wait.map(|wait| wait.as_secs() / 60)
    }

    #[test]
    fn a_night_begins_on_its_day_and_ends_on_the_next() {
        let nights = window(&["Mon-Fri 22:00-05:00"]).unwrap();
        let utc = TimeZone::UTC;
        for (at, expected) in [
            ("2026-11-27T21:59", Some(1)),
            ("2026-11-27T22:00", None),
            ("2026-11-28T04:59", None),
            ("2026-11-28T05:00", Some(2 * 24 * 60 + 17 * 60)),
            ("2026-11-28T22:30", Some(24 * 60 + 23 * 60 + 30)),
            // the night of a Sunday does not begin, so that of Monday's morning does not exist
            ("2026-11-30T03:00", Some(19 * 60)),
        ] {
            assert_eq!(minutes(&nights, at, &utc), expected, "{at}");
        }
    }

    #[test]
    fn days_and_times_in_all_spellings() {
        let utc = TimeZone::UTC;
        let weekend = window(&["sat,SUN 0:00-24:00"]).unwrap();
        assert_eq!(minutes(&weekend, "2026-11-27T23:59", &utc), Some(1));
        assert_eq!(minutes(&weekend, "2026-11-29T23:59", &utc), None);
        let daily = window(&["01:00-03:00"]).unwrap();
        assert_eq!(minutes(&daily, "2026-11-27T02:00", &utc), None);
        assert_eq!(minutes(&daily, "2026-11-27T03:00", &utc), Some(22 * 60));
        let around = window(&["Fri-Mon 10:00-11:00", "Wed 12:00-13:00"]).unwrap();
        assert_eq!(minutes(&around, "2026-11-30T10:30", &utc), None);
        assert_eq!(
            minutes(&around, "2026-12-01T12:30", &utc),
            Some(24 * 60 - 30)
        );
        for wrong in [
            "",
            "Mon",
            "22-05",
            "22:00",
            "22:00-22:00",
            "Funday 01:00-02:00",
            "25:00-26:00",
            "24:00-01:00",
            "1:5-2:00",
            "Mon- 01:00-02:00",
        ] {
            assert!(window(&[wrong]).is_err(), "{wrong}");
        }
        assert!(window(&[]).is_err());
        assert!(Window::parse(&["01:00-02:00".into()], Some("../etc/passwd")).is_err());
        assert!(Window::parse(&["01:00-02:00".into()], Some("No/Where")).is_err());
    }

    /// Local time is what counts, on the nights too in which the clocks change.
    #[test]
    fn daylight_saving_moves_the_window() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let nightly = window(&["02:30-04:00"]).unwrap();
        // half past two does not exist on this night: it opens at half past three
        assert_eq!(minutes(&nightly, "2026-03-29T01:30", &berlin), Some(60));
        assert_eq!(minutes(&nightly, "2026-03-28T01:30", &berlin), Some(60));
        // on this one the hour comes twice
        assert_eq!(minutes(&nightly, "2026-10-25T01:30", &berlin), Some(60));
    }
}
