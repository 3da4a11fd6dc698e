//! The core against a model: whole lives of hubs and shards over fake sockets, thousands of them, each drawn from one
//! seed and checked against an independent model of what every subscriber is owed.
//!
//! Rooms have policies of all kinds, which change under way; events have keys and versions and are published once; users
//! are present, muted and sent away; sockets take what they like. What a room's policy promises is checked as what every
//! room promises: what a newcomer begins with, what a slow reader gets, what one write may have, what the log holds.
//!
//! `TIDEGATE_SIM_SEED=123 cargo test --test simulation` replays one seed and prints what it does.
//! `TIDEGATE_SIM_SEEDS=1000000 cargo test --release --test simulation` runs more than the usual number.

mod client;
mod held;
mod kind;
mod life;
mod listener;
mod model;
mod net;
mod plan;
mod present;
mod right;
mod room;
mod tally;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run.
const SEEDS: u64 = 10_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Runs one to three lives, one after the other, with subscribers that keep ids from one to the next.
fn run(seed: u64, talks: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let plan = plan::Plan::draw(&mut rng);
    if talks {
        eprintln!("{plan:#?}");
    }
    let mut ids = Vec::new();
    let mut now = rng.u64(0..5_000_000);
    for life in 0..rng.u64(1..=3) {
        let epoch = rng.u64(..) + life;
        now = life::live(&plan, &mut rng, &mut ids, now, epoch, talks);
    }
}

#[test]
fn every_listener_gets_what_it_is_owed() {
    if let Some(seed) = number("TIDEGATE_SIM_SEED") {
        return run(seed, true);
    }
    let seeds = number("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failed.load(Ordering::Relaxed) >= 5 {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| run(seed, false))).is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
                eprintln!("replay with: TIDEGATE_SIM_SEED={seed} cargo test --test simulation\n");
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    assert_eq!(failed.into_inner(), 0, "seeds failed; each says above how to replay it");
}
