//! The link of several nodes against a model of Redis: whole lives, thousands of them, each drawn from one seed.
//!
//! Servers crash with all, some or none of what they had, are replaced by replicas that lag, go back without a trace, lose
//! keys, split and heal; connections break with commands under way that run afterwards. The checker knows what was really
//! appended, and holds every node to it: what it has is what the log has, what was acknowledged is there once, what was
//! confirmed is on the replica, and what is gone was told.
//!
//! `TIDEGATE_SIM_SEED=123 cargo test --test order simulation` replays one seed and prints what it does.
//! `TIDEGATE_SIM_SEEDS=100000 cargo test --release --test order simulation` runs more than the usual number.

mod data;
mod fault;
mod node;
mod server;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

#[test]
fn every_node_has_what_the_order_has_or_was_told() {
    if let Some(seed) = number("TIDEGATE_SIM_SEED") {
        return world::live(seed, true);
    }
    let seeds = number("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.load(Ordering::Relaxed) >= 5 {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| world::live(seed, false))).is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
                eprintln!("replay with: TIDEGATE_SIM_SEED={seed} cargo test --test order simulation\n");
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    assert_eq!(failed.into_inner(), 0, "seeds failed; each says above how to replay it");
}
