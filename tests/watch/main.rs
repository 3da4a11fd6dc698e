//! Monitoring of a running server: metrics, probes, the admin listener, the live page, alerts and dashboards.
//!
//! One file for each promise. Prometheus and Chromium are the real programs.

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod admin_places;
mod dashboard;
mod dashboard_page;
mod prometheus;
mod promised;
