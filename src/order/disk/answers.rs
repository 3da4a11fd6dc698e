//! Publishes that are answered before they are on the disk, against a folder that fails.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::hub::admission::Caps;
use crate::hub::draft::{Draft, Target};
use crate::hub::history::HistoryBounds;
use crate::hub::log::rules::LogBounds as RoomBounds;
use crate::hub::own_ids::Repeats;
use crate::hub::{Hub, HubSettings, Published};
use crate::order::disk::committer::{Committer, DiskStats};
use crate::order::disk::kept::Kept;
use crate::order::disk::log::{DiskLog, LogBounds};
use crate::order::disk::model::Model;
use crate::order::disk::record::Batch;
use crate::order::disk::scan::Scan;
use crate::order::disk::unwritten::WRITE_EVERY;
use crate::order::memory::MemoryOrder;
use crate::order::proposals::Proposals;
use crate::order::refused::{Refused, Why};
use crate::types::moment::Moment;
use crate::types::position::Epoch;

struct Writing {
    model: Model,
    order: MemoryOrder,
    proposals: Arc<Proposals>,
    stats: Arc<DiskStats>,
    committer: Committer<Model>,
}

fn writing() -> Writing {
    let room = RoomBounds { events_max: 1, bytes_max: 1000 };
    let order = MemoryOrder::new(Hub::new(HubSettings {
        shards: 1,
        epoch: Epoch::new(1),
        history: HistoryBounds { log: room, bytes_max: 1000, age_max: Duration::from_secs(1) },
        caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
        delivery: None,
    }));
    let model = Model::new(1);
    let scan = Scan::of(&model).expect("it can be read");
    let bounds = LogBounds { segment_bytes: 6000, bytes_max: 40_000, age_max: Duration::from_hours(24) };
    let log = DiskLog::open(model.clone(), &scan, bounds, Epoch::new(1)).expect("nothing fails");
    order.hub().go_on(log.lineage().clone());
    let (proposals, stats) = (Arc::<Proposals>::default(), Arc::<DiskStats>::default());
    let committer = Committer::new(order.clone(), proposals.clone(), log, Kept::default(), stats.clone());
    Writing { model, order, proposals, stats, committer: committer.answering_first(true) }
}

fn look<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

impl Writing {
    /// Publishes, and lets the thread take one step at `now`.
    fn publish(&mut self, data: &str, now: Moment) -> Result<Published, Refused> {
        let (order, proposals) = (self.order.clone(), self.proposals.clone());
        let draft = Draft::to(Target::All, data.to_owned());
        let mut published = pin!(proposals.publish(&order, vec![draft], None, Repeats::RefuseAll));
        assert!(look(published.as_mut()).is_pending());
        assert!(self.committer.step(|| (now, now.0)));
        match look(published) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("{data} has no answer"),
        }
    }

    /// Positions of the first entries, and counts, of the batches on the disk.
    fn there(&self) -> Vec<(u64, u32)> {
        let scan = Scan::of(&self.model).expect("it can be read");
        let mut there = Vec::new();
        scan.visit(&self.model, |batch: &Batch<'_>| there.push((batch.first, batch.count)))
            .expect("the same");
        there
    }
}

const START: Moment = Moment(1_000_000);

#[test]
fn what_is_answered_is_on_the_disk_a_moment_later_in_one_batch() {
    let mut writing = writing();
    let first = writing.publish("a", START).expect("an answer");
    let second = writing.publish("b", START).expect("an answer");
    assert_eq!((second.offset, writing.there()), (first.offset + 1, vec![]));
    assert!(writing.committer.step(|| (START + WRITE_EVERY, 0)));
    assert_eq!(writing.there(), [(first.offset, 2)]);
    assert_eq!((writing.stats.commits.get(), writing.stats.entries.get()), (1, 2));
    let third = writing.publish("c", START + 2 * WRITE_EVERY).expect("an answer");
    assert_eq!(third.offset, second.offset + 1);
}

#[test]
fn an_end_in_order_writes_what_was_answered() {
    let mut writing = writing();
    let first = writing.publish("a", START).expect("an answer");
    let Writing { model, committer, .. } = writing;
    committer.close(|| (START, 0)).expect("nothing fails");
    let scan = Scan::of(&model).expect("it can be read");
    assert!(scan.is_clean && scan.newest == first.offset);
}

/// Those who saw it are told, because a reader from there is below the floor; and a disk that is known to fail is waited for.
#[test]
fn after_a_failure_nothing_is_answered_before_it_is_on_the_disk() {
    let mut writing = writing();
    let lost = writing.publish("a", START).expect("an answer");
    writing.model.fail(1000);
    assert!(writing.committer.step(|| (START + WRITE_EVERY, 0)));
    assert_eq!(writing.stats.failures.get(), 1);
    let refused = writing.publish("b", START + WRITE_EVERY).expect_err("it pauses");
    assert!(matches!(refused.why, Why::DiskFailed | Why::DiskFull), "{refused:?}");
    let later = START + Duration::from_secs(5);
    assert!(writing.publish("c", later).is_err());
    writing.model.fail(0);
    let later = START + Duration::from_secs(10);
    let next = writing.publish("d", later).expect("it can be written again");
    assert_eq!(writing.there(), [(next.offset, 1)], "before the answer");
    assert!(next.offset > lost.offset);
    assert!(Scan::of(&writing.model).expect("it can be read").floor >= lost.offset);
    // And all is as before.
    let last = writing.publish("e", later).expect("an answer");
    assert_eq!((last.offset, writing.there().len()), (next.offset + 1, 1));
}
