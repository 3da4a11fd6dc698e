//! Programs of other projects around Tidegate: browsers, proxies, client libraries and decoders, each run unchanged.
//!
//! One file for each neighbour, or for a promise that several of them show. If its program is not installed, a test is
//! skipped with a message; in CI it fails.

#[path = "../common/mod.rs"]
mod common;

mod chromium;
mod clients;
mod comes_back;
mod cors_browser;
mod cors_firefox;
mod decoders;
mod nginx;
mod nginx_basic;
mod polyfill;
mod proxies;
mod try_page;
