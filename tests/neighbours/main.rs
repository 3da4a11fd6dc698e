//! Programs of others around Tidegate: browsers, proxies, client libraries and decoders, each run as it is.
//!
//! One file a neighbour, or a promise that several of them show. A test skips itself, and says so, where its program is not
//! installed; in CI that is a failure.

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
