//! One HTTP connection: its bytes, its place among others, and its hand-over to a shard.

pub mod drive;
pub mod exchange;
pub mod guard;
pub mod held;
pub mod introduce;
pub mod io;
pub mod places;
pub mod proxy_header;
pub mod response_body;
pub mod subscription;
