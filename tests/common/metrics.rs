//! A scrape, as Prometheus reads it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::conn::{Conn, request};

/// The result of one scrape: values by series, such as `tidegate_refused_total{reason="full"}`.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub text: String,
    pub series: BTreeMap<String, f64>,
}

impl Metrics {
    pub fn scrape(admin: SocketAddr) -> Self {
        let response = Conn::tcp(admin).round(&request("GET", "/metrics", &[], b""));
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(response.text())
    }

    /// Parses the text exposition format strictly: every line is a comment or a new series.
    pub fn parse(text: String) -> Self {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let value = value.parse().unwrap_or_else(|err| panic!("{err}: {line}"));
            assert_eq!(series.insert(name.to_owned(), value), None, "twice: {line}");
        }
        Self { text, series }
    }

    #[track_caller]
    pub fn get(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("{series} is missing:\n{}", self.text))
    }

    /// Returns whether `series` has exactly `value`. Counts stay exact far beyond what a test reaches.
    #[track_caller]
    pub fn is(&self, series: &str, value: f64) -> bool {
        self.get(series).total_cmp(&value).is_eq()
    }

    #[track_caller]
    pub fn assert(&self, series: &str, value: f64) {
        assert!(self.is(series, value), "{series} is {} and should be {value}", self.get(series));
    }

    /// Returns how many streams were refused for `reason`.
    #[track_caller]
    pub fn refused(&self, reason: &str) -> f64 {
        self.get(&format!("tidegate_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Returns how many streams were closed for `reason`.
    #[track_caller]
    pub fn closed(&self, reason: &str) -> f64 {
        self.get(&format!("tidegate_connections_closed_total{{reason=\"{reason}\"}}"))
    }
}
