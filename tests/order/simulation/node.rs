//! A node: a link, a follower that remembers what it was told, and the checks of what it may be told.

use std::collections::BTreeMap;

use tidegate::order::redis::link::{Adopted, Applied, ConnNo, Link, LinkState, Loss, Settings};
use tidegate::order::redis::terms::follows;
use tidegate::types::lineage::{Lineage, Presented, Term};
use tidegate::types::moment::Moment;
use tidegate::types::position::Offset;

use super::data::{Data, text};

pub(crate) struct Node {
    pub life: String,
    pub link: Link,
    /// Where new connections lead.
    pub route: Option<usize>,
    pub no: ConnNo,
    /// The connections that it has, if they are open.
    pub conn: Option<Conn>,
    lineage: Option<Lineage>,
    /// What it has: first offset, count, body.
    has: Vec<(Offset, u32, String)>,
    /// It has everything above.
    floor: Offset,
    head: Offset,
    /// All ids that it ever gave out, with the body.
    pub ids: BTreeMap<String, String>,
    pub losses: Vec<Loss>,
}

/// A pair of connections to one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    pub server: usize,
    pub process: u64,
}

impl Node {
    pub(crate) fn new(life: String, seed: u64, route: usize, now: Moment) -> Self {
        let settings = Settings { marks_max: 10_000, ..Settings::new(life.clone()) };
        Self {
            life,
            link: Link::new(settings, seed, now),
            route: Some(route),
            no: ConnNo::default(),
            conn: None,
            lineage: None,
            has: Vec::new(),
            floor: 0,
            head: 0,
            ids: BTreeMap::new(),
            losses: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, batch: &Applied) {
        let lineage = self.lineage.as_ref().expect("adopted before it is applied");
        let is_next = follows(lineage, self.head, batch.first);
        assert!(is_next, "{} applies {batch:?} behind {}", self.life, self.head);
        let last = batch.first + u64::from(batch.count) - 1;
        let term = lineage.terms().iter().rev().find(|term| term.first < last).expect("it is in one");
        assert!(last <= term.last, "{batch:?} is behind the end of {term:?}");
        for offset in batch.first..=last {
            self.ids.insert(lineage.position(offset).to_string(), text(&batch.body));
        }
        self.head = last;
        self.has.push((batch.first, batch.count, text(&batch.body)));
    }

    pub(crate) fn adopt(&mut self, adopted: &Adopted) {
        let was = self.lineage.replace(adopted.lineage.clone());
        assert_eq!(was.is_none(), adopted.loss == Loss::Start, "{adopted:?}");
        match adopted.shared_to {
            Some(shared) if shared == adopted.from => {
                // It may have come to a term without events.
                let is_start = |term: &Term| term.first == shared;
                let is_known = was.is_some_and(|was| was.terms().iter().any(is_start));
                assert!(shared <= self.head || is_known, "{adopted:?} shares more than {}", self.head);
                assert_eq!(
                    shared >= self.head,
                    adopted.loss == Loss::Nothing,
                    "{adopted:?} at {}",
                    self.head
                );
                self.has.retain(|(first, count, _)| first + u64::from(*count) - 1 <= shared);
                self.floor = self.floor.min(shared);
            }
            _ => {
                assert!(!matches!(adopted.loss, Loss::Nothing | Loss::Failover), "{adopted:?}");
                self.has.clear();
                self.floor = adopted.from;
            }
        }
        self.head = adopted.from;
        self.losses.push(adopted.loss);
    }

    /// Whether it has nothing of what it shares with another order: it began later.
    pub(crate) fn began_later(&self, lineage: &Lineage) -> bool {
        let shared = self.lineage.as_ref().and_then(|mine| mine.shared_with(lineage));
        shared.is_some_and(|shared| shared < self.floor)
    }

    /// A batch of its own that was acknowledged: it was applied here just now, or the log no longer had it.
    pub(crate) fn has(&self, body: &str, first: Offset) -> bool {
        first <= self.floor || self.has.last().is_some_and(|(at, _, newest)| *at == first && newest == body)
    }

    /// It has just applied the newest of what `data` has, up to its head. Then all that it has is what is there. Looks at
    /// the newest, so many offsets.
    pub(crate) fn check(&self, data: &Data, offsets: Offset) {
        let floor = self.floor.max(data.floor()).max(self.head.saturating_sub(offsets));
        let there: Vec<_> = data.batches(floor).filter(|(first, ..)| *first <= self.head).collect();
        let is_taken_out = |first: Offset, count: u32| {
            data.taken_out.contains(&(first + u64::from(count) - 1))
                && !there.iter().any(|(at, ..)| *at == first)
        };
        let from = self.has.partition_point(|(first, ..)| *first <= floor);
        let here: Vec<_> = self.has[from..]
            .iter()
            .filter(|(first, count, _)| *first > floor && !is_taken_out(*first, *count))
            .cloned()
            .collect();
        assert_eq!(here, there, "{} has other events than the log above {floor}", self.life);
    }

    /// No id that it gave out is read as another event of the order.
    pub(crate) fn check_ids(&self, lineage: &Lineage, data: &Data) {
        let mut order = BTreeMap::new();
        for (first, count, body) in data.batches(0) {
            order.extend((first..first + u64::from(count)).map(|offset| (offset, body.clone())));
        }
        let floor = data.floor();
        for (id, body) in &self.ids {
            if let Presented::Here(offset) = lineage.read(id)
                && offset > floor
                && !data.taken_out.contains(&offset)
            {
                assert_eq!(order.get(&offset), Some(body), "{} gave {id} to another event", self.life);
            }
        }
    }

    /// An answer may be under way for so long that it is late for a moment.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.link.state(), LinkState::Live | LinkState::Late)
    }

    pub(crate) fn head(&self) -> Offset {
        self.head
    }
}
