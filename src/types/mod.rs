//! Basic types: names, positions, time and rates. Uses no other module.

pub mod clock;
pub mod count;
pub mod histogram;
pub mod lineage;
pub mod moment;
pub mod name;
pub mod node;
pub mod percent;
pub mod plain_text;
pub mod position;
pub mod rate;
pub mod rate_limiter;
pub mod words;
