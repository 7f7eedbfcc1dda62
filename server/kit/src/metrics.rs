//! What the server counts of its own work, and the text in which a monitoring system reads it
//! (Prometheus exposition format 0.0.4).
//!
//! Counting is on the path of every request, so it is a few atomic additions and one read lock; the text
//! is made when somebody asks. A service that has something to tell writes it with [`Exposition`] when
//! the wiring asks it to.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ambidex_db::{Histogram, HistogramSnapshot, MICROSECONDS};
use http::Method;

/// Different statuses that one route is known to answer with; further ones are counted as status 0.
const STATUSES_MAX: usize = 24;
const METHODS: [&str; 8] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other",
];
/// The label of requests that no route took.
const UNMATCHED: &str = "unmatched";

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Starts at 0.
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    /// One more for as long as the answer lives.
    pub fn up(&'static self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }

    /// The number at this moment.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes one off its gauge when dropped.
#[derive(Debug)]
pub struct GaugeGuard(&'static Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests being served.
pub(crate) static IN_FLIGHT: Gauge = Gauge::new();
/// Connections being served.
pub(crate) static CONNECTIONS: Gauge = Gauge::new();

static ROUTES: LazyLock<RwLock<HashMap<Box<str>, Route>>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Route([OnceLock<Box<Series>>; METHODS.len()]);

struct Series {
    duration_us: Histogram,
    statuses: [(AtomicU16, AtomicU64); STATUSES_MAX],
}

impl Series {
    fn new() -> Series {
        Series {
            duration_us: Histogram::new(MICROSECONDS),
            statuses: [const { (AtomicU16::new(0), AtomicU64::new(0)) }; STATUSES_MAX],
        }
    }

    fn count(&self, status: u16) {
        for (code, count) in &self.statuses[..STATUSES_MAX - 1] {
            // The first one who needs a free place takes it.
            let free = code.compare_exchange(0, status, Ordering::Relaxed, Ordering::Relaxed);
            if free.is_ok() || free == Err(status) {
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.statuses[STATUSES_MAX - 1]
            .1
            .fetch_add(1, Ordering::Relaxed);
    }
}

fn method_index(method: &Method) -> usize {
    let name = method.as_str();
    METHODS
        .iter()
        .position(|known| *known == name)
        .unwrap_or(METHODS.len() - 1)
}

/// Counts one answered request.
pub(crate) fn answered(route: Option<&str>, method: &Method, status: u16, took: Duration) {
    let route = route.unwrap_or(UNMATCHED);
    let count = |route: &Route| {
        let series = route.0[method_index(method)].get_or_init(|| Box::new(Series::new()));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        series.duration_us.record(micros);
        series.count(status);
    };
    {
        let routes = ROUTES.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(route) {
            return count(known);
        }
    }
    let mut routes = ROUTES.write().unwrap_or_else(PoisonError::into_inner);
    count(routes.entry(Box::from(route)).or_default());
}

/// Writes what the listeners of this process counted.
pub fn http(text: &mut Exposition) {
    text.gauge(
        "ambidex_http_connections",
        "Open connections of both listeners.",
        CONNECTIONS.value() as f64,
    );
    text.gauge(
        "ambidex_http_requests_in_flight",
        "Requests whose answer has not begun.",
        IN_FLIGHT.value() as f64,
    );
    let routes = ROUTES.read().unwrap_or_else(PoisonError::into_inner);
    let mut sorted: Vec<_> = routes.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let series = || {
        sorted.iter().flat_map(|(name, route)| {
            let methods = METHODS.iter().zip(&route.0);
            methods.filter_map(|(method, series)| Some((&***name, *method, series.get()?)))
        })
    };
    const REQUESTS: &str = "ambidex_http_requests_total";
    text.family(REQUESTS, "counter", "Answered requests.");
    for (route, method, series) in series() {
        for (number, (code, count)) in series.statuses.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let code = code.load(Ordering::Relaxed);
            if count == 0 || (code == 0 && number < STATUSES_MAX - 1) {
                continue;
            }
            let code = code.to_string();
            let labels = [("method", method), ("route", route), ("status", &*code)];
            text.sample(REQUESTS, &labels, count as f64);
        }
    }
    const DURATION: &str = "ambidex_http_request_duration_seconds";
    text.family(DURATION, "histogram", "Time until an answer began.");
    for (route, method, series) in series() {
        let labels = [("method", method), ("route", route)];
        text.buckets(DURATION, &labels, &series.duration_us.snapshot(), 1e-6);
    }
}

/// The text of all metrics, one family after the other.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// The content type to answer with.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Nothing yet.
    pub fn new() -> Exposition {
        Exposition::default()
    }

    /// Begins a family; its samples follow. `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value of the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        self.labels(labels);
        let _ = writeln!(self.0, " {value}");
    }

    /// A family with one value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// A family with one value that only goes up.
    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A family with one histogram; `scale` turns its values into the unit of the name.
    pub fn histogram(&mut self, name: &str, help: &str, values: &HistogramSnapshot, scale: f64) {
        self.family(name, "histogram", help);
        self.buckets(name, &[], values, scale);
    }

    /// One histogram of the family that was begun last.
    pub fn buckets(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        values: &HistogramSnapshot,
        scale: f64,
    ) {
        let mut below = 0;
        for (number, count) in values.counts.iter().enumerate() {
            below += count;
            let bound = match values.bounds.get(number) {
                Some(bound) => (*bound as f64 * scale).to_string(),
                None => "+Inf".to_owned(),
            };
            let with_bound = [labels, &[("le", &*bound)]].concat();
            self.0.push_str(name);
            self.0.push_str("_bucket");
            self.labels(&with_bound);
            let _ = writeln!(self.0, " {below}");
        }
        for (suffix, value) in [
            ("_sum", values.sum as f64 * scale),
            ("_count", below as f64),
        ] {
            self.0.push_str(name);
            self.0.push_str(suffix);
            self.labels(labels);
            let _ = writeln!(self.0, " {value}");
        }
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        if labels.is_empty() {
            return;
        }
        for (number, (name, value)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{name}=\"{value}\"");
        }
        self.0.push('}');
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_monitoring_reads() {
        let mut text = Exposition::new();
        text.family("x_total", "counter", "All of x.");
        text.sample("x_total", &[("a", "b\"c\\\n")], 3.0);
        text.gauge("y", "Some y.", 0.5);
        let values = HistogramSnapshot {
            bounds: &[100, 1_000],
            counts: vec![1, 2, 1],
            sum: 5_000,
        };
        text.histogram("z_seconds", "Time of z.", &values, 1e-3);
        assert_eq!(
            text.finish(),
            "# HELP x_total All of x.\n# TYPE x_total counter\nx_total{a=\"b\\\"c\\\\\\n\"} 3\n\
             # HELP y Some y.\n# TYPE y gauge\ny 0.5\n\
             # HELP z_seconds Time of z.\n# TYPE z_seconds histogram\n\
             z_seconds_bucket{le=\"0.1\"} 1\nz_seconds_bucket{le=\"1\"} 3\nz_seconds_bucket{le=\"+Inf\"} 4\n\
             z_seconds_sum 5\nz_seconds_count 4\n"
        );
    }

    #[test]
    fn statuses_beyond_the_table_are_still_counted() {
        let series = Series::new();
        for status in 200..240 {
            series.count(status);
            series.count(status);
        }
        let counts: Vec<u64> = series
            .statuses
            .iter()
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .collect();
        assert_eq!(counts[0], 2);
        assert_eq!(counts.iter().sum::<u64>(), 80);
    }
}
