//! Promise: history is charged the memory it takes, whether it is many events of one room or one event of many.
//! Measured by the kernel's figures for this process, with the allocator that ships; a file of its own, because no
//! other test may run beside it.

use std::sync::Arc;
use std::time::Duration;

use procfs::process::Process;
use tidegate::hub::admission::Caps;
use tidegate::hub::draft::{Draft, Target};
use tidegate::hub::history::HistoryBounds;
use tidegate::hub::log::rules::LogBounds;
use tidegate::hub::{Hub, HubSettings};
use tidegate::order::memory::MemoryOrder;
use tidegate::types::moment::Moment;
use tidegate::types::name::{EventId, RoomName};
use tidegate::types::position::Epoch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Returns the resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = Process::myself().and_then(|process| process.statm()).expect("/proc/self/statm").resident;
    pages * procfs::page_size()
}

fn hub(shards: usize) -> Arc<Hub> {
    let log = LogBounds { events_max: 1000, bytes_max: 1 << 20 };
    Hub::new(HubSettings {
        shards,
        epoch: Epoch::new(1),
        history: HistoryBounds { log, bytes_max: 1 << 30, age_max: Duration::from_hours(1) },
        caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
        delivery: None,
    })
}

/// Returns a hub of so many shards with `rooms` rooms with `events` events each, with ids of so many bytes, if any; and
/// by how much it grew this process for each byte that it charges them, in hundredths.
fn filled(shards: usize, rooms: usize, events: usize, id_bytes: Option<usize>) -> (Arc<Hub>, u64) {
    let hub = hub(shards);
    let before = resident();
    for round in 0..events {
        for room in 0..rooms {
            let target = Target::Room(RoomName::new(&format!("room {room}")).expect("a short name"));
            let draft = Draft {
                id: id_bytes.map(|bytes| own_id(round * rooms + room, bytes)),
                ..Draft::to(target, format!("{round}"))
            };
            MemoryOrder::new(hub.clone()).publish([draft], Moment(1)).expect("no id comes twice");
        }
    }
    let taken = resident().saturating_sub(before);
    let (held, charged) = hub.history();
    assert_eq!(held, rooms * events);
    (hub, taken * 100 / charged as u64)
}

fn own_id(number: usize, bytes: usize) -> EventId {
    EventId::new(&format!("{number:.>bytes$}")).expect("an id")
}

#[test]
fn history_is_charged_what_it_takes() {
    // Memory that is needed once, for any number.
    let _first = filled(2, 1000, 1, None);
    // Each stays, or the next would reuse its memory.
    let hubs = [
        (2, 300_000, 1, None),
        (2, 30_000, 10, None),
        (2, 500, 1000, None),
        // A room has an attachment for each shard.
        (64, 50_000, 1, None),
        (2, 300, 1000, Some(10)),
        // Just past a size at which the table of ids doubles.
        (2, 240, 1000, Some(127)),
    ]
    .map(|(shards, rooms, events, id_bytes)| filled(shards, rooms, events, id_bytes));
    let percents = hubs.each_ref().map(|(_, percent)| *percent);
    assert!(percents.iter().all(|percent| (70..=125).contains(percent)), "{percents:?}");
}
