//! The log against a folder that fails, for many random lives.
//!
//! The promise that is checked: a batch whose commit was answered is read back at its position, or lies below the floor of
//! what is read, or its id says that its reader saw something that is lost. And no id ever means two batches.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;

use crate::order::disk::log::{DiskLog, LogBounds};
use crate::order::disk::model::Model;
use crate::order::disk::record::Batch;
use crate::order::disk::scan::Scan;
use crate::types::lineage::Presented;
use crate::types::position::{Epoch, Offset};

/// A committed batch: the position of its first entry, their number, and their text.
type Written = (Offset, u32, Vec<u8>);

/// What happened in all lives of one log so far.
struct History {
    seed: u64,
    rng: Rng,
    model: Model,
    /// What was answered, with the id of its last entry.
    acked: Vec<(Written, String)>,
    /// What was tried, and may be read back or not.
    tried: Vec<Written>,
    /// What each id means.
    meaning: HashMap<String, Vec<u8>>,
    /// Positions at or below it may have been removed, because there was too much.
    removed_to: Offset,
    /// Whether bits were flipped.
    is_damaged: bool,
    lives: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: Rng::with_seed(seed),
            model: Model::new(seed),
            acked: Vec::new(),
            tried: Vec::new(),
            meaning: HashMap::new(),
            removed_to: 0,
            is_damaged: false,
            lives: 0,
        }
    }

    /// Opens the log, and checks what it holds.
    fn open(&mut self, was_closed: bool) -> DiskLog<Model> {
        let seed = self.seed;
        self.model.fail(0);
        let scan = Scan::of(&self.model).expect("it can be read");
        assert!(scan.is_clean || !was_closed, "seed {seed}: it was closed");
        let mut read: Vec<Written> = Vec::new();
        let visited = scan.visit(&self.model, |batch: &Batch<'_>| {
            read.push((batch.first, batch.count, batch.body.to_vec()));
        });
        visited.expect("it can be read again");
        self.lives += 1;
        let bounds = LogBounds { segment_bytes: 600, bytes_max: 4000, age_max: Duration::from_hours(24) };
        let epoch = Epoch::new(self.seed.wrapping_mul(1000) + self.lives);
        let log = DiskLog::open(self.model.clone(), &scan, bounds, epoch).expect("nothing fails");
        if std::env::var("TIDEGATE_SIM_SEED").is_ok() {
            println!("life {}: {scan:#?} {:?}", self.lives, log.lineage());
        }
        self.check(&scan, &read, &log);
        log
    }

    fn check(&mut self, scan: &Scan, read: &[Written], log: &DiskLog<Model>) {
        let (seed, lives) = (self.seed, self.lives);
        for pair in read.windows(2) {
            assert!(pair[0].0 + u64::from(pair[0].1) <= pair[1].0, "seed {seed}: {pair:?} overlap");
        }
        for batch in read {
            let known = self.tried.contains(batch) || self.acked.iter().any(|(acked, _)| acked == batch);
            assert!(known, "seed {seed}, life {lives}: {batch:?} was never written");
            self.means(log.lineage().position(batch.0).as_str(), &batch.2);
        }
        if !self.is_damaged {
            assert!(scan.floor <= self.removed_to, "seed {seed}: the floor rose to {}", scan.floor);
        }
        for (batch, id) in &self.acked {
            let last = batch.0 + u64::from(batch.1) - 1;
            let is_read = read.contains(batch);
            match log.lineage().read(id) {
                Presented::Here(offset) => {
                    assert_eq!(offset, last);
                    assert!(
                        is_read || last <= scan.floor,
                        "seed {seed}, life {lives}: {id} is lost in silence"
                    );
                }
                Presented::Beyond(end) => {
                    assert!(end < last && !is_read, "seed {seed}: {id} is there");
                    assert!(self.is_damaged, "seed {seed}, life {lives}: {id} is lost beyond {end}");
                }
                Presented::Elsewhere => {
                    assert!(self.is_damaged, "seed {seed}: the term of {id} is forgotten");
                }
                Presented::Foreign => unreachable!("it is a position"),
            }
        }
    }

    fn means(&mut self, id: &str, body: &[u8]) {
        let before = self.meaning.entry(id.to_owned()).or_insert_with(|| body.to_vec());
        assert_eq!(before, body, "seed {}: {id} means two batches", self.seed);
    }

    fn commit(&mut self, log: &mut DiskLog<Model>, n: u64) {
        let count = self.rng.u32(1..4);
        let mut body = format!("{}-{n}-", self.lives).into_bytes();
        let len = if self.rng.u8(..) < 10 { self.rng.usize(600..1500) } else { self.rng.usize(0..200) };
        body.resize(body.len() + len, b'x');
        let first = log.next();
        match log.commit(count, &body, n) {
            Ok(at) => {
                assert_eq!(at, first);
                self.means(log.lineage().position(first).as_str(), &body);
                let id = log.lineage().position(first + u64::from(count) - 1).to_string();
                self.acked.push(((first, count, body), id));
            }
            Err(_) if self.rng.bool() => self.tried.push((first, count, body)),
            Err(_) => {
                // It was delivered before it was committed: its positions are used up.
                let last = first + u64::from(count) - 1;
                self.means(log.lineage().position(first).as_str(), &body);
                self.tried.push((first, count, body));
                log.pass(last);
                self.removed_to = self.removed_to.max(last);
            }
        }
        while let Some(oldest) = log.excess(n) {
            self.removed_to = self.removed_to.max(oldest.last);
            if log.remove_oldest().is_err() {
                return;
            }
        }
        assert!(log.bytes() <= 4000 || log.segments().count() == 1, "seed {}: {}", self.seed, log.bytes());
    }
}

fn live(seed: u64) {
    let mut history = History::new(seed);
    let mut was_closed = false;
    for _ in 0..history.rng.usize(2..8) {
        let mut log = history.open(was_closed);
        let faults = *history.rng.choice(&[0, 0, 20, 200]).expect("some");
        history.model.fail(faults);
        for n in 0..history.rng.u64(0..30) {
            history.commit(&mut log, n);
        }
        was_closed = false;
        if history.rng.bool() {
            was_closed = log.close().is_ok();
        } else {
            drop(log);
        }
        if history.rng.u8(..) < 200 {
            history.model.crash();
        }
        // A flipped bit is found by the next start, whatever it is in.
        if history.rng.u8(..) < 20 && history.model.flip() {
            history.is_damaged = true;
            was_closed = false;
        }
    }
    history.open(was_closed);
}

/// Lives by default; `TIDEGATE_SIM_SEEDS` sets another number, and `TIDEGATE_SIM_SEED` replays one.
#[test]
fn nothing_that_was_answered_is_lost_in_silence() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    if let Some(seed) = number("TIDEGATE_SIM_SEED") {
        return live(seed);
    }
    let seeds = number("TIDEGATE_SIM_SEEDS").unwrap_or(if cfg!(miri) { 5 } else { 2000 });
    (0..seeds).for_each(live);
}
