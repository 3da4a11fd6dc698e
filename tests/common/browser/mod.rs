//! Real browsers: how tests start and drive one, and the pages and networks they need.

pub mod chromium;
pub mod either;
pub mod pages;
pub mod proxy;
