//! Monitor: the figures of this machine and of Tidegate, once a second.
//!
//! The room keeps the last minutes and gives them to everybody who joins (`replay` in `tidegate.toml`), so a chart is full at
//! once, and this file keeps nothing.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::answer::Refusal;
use crate::app::App;
use crate::names::now_ms;

const EVERY: Duration = Duration::from_secs(1);

/// Starts to measure. It ends with the process.
pub(crate) fn begin(app: &App) {
    let app = app.clone();
    tokio::spawn(async move {
        let mut machine = Machine::new(&app.folder);
        let mut tidegate = None;
        let mut ticks = interval(EVERY);
        // After a pause, one figure for all of it, and not many at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Files below /proc and statvfs(2): they answer in less than a millisecond.
            let measured = machine.measure();
            // If Tidegate does not answer, nobody would get the event either. The charts have a hole then.
            let Ok(now) = Counts::ask(&app).await else {
                tidegate = None;
                continue;
            };
            if let Some(before) = tidegate.replace(now) {
                let data = json!({ "at": now_ms(), "machine": measured, "tidegate": now.since(&before) });
                let _ = app.push.tell(&json!({ "room": "monitor", "event": "figures", "data": data })).await;
            }
        }
    });
}

struct Machine {
    system: System,
    disks: Disks,
    /// Of the disk that has the application's data.
    disk: Option<usize>,
}

impl Machine {
    fn new(folder: &Path) -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
        // Mount points contain each other, so the longest counts.
        let disk = disks
            .iter()
            .enumerate()
            .filter(|(_, disk)| folder.starts_with(disk.mount_point()))
            .max_by_key(|(_, disk)| disk.mount_point().as_os_str().len())
            .map(|(index, _)| index);
        Self { system: System::new_with_specifics(kinds), disks, disk }
    }

    /// The use of the processors is that since the last call.
    fn measure(&mut self) -> Value {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let disk = self.disk.and_then(|index| self.disks.list_mut().get_mut(index)).map(|disk| {
            disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
            (disk.total_space() - disk.available_space(), disk.total_space())
        });
        json!({
            "cpu_percent": self.system.global_cpu_usage(),
            "cpus": self.system.cpus().len(),
            "memory_used": self.system.used_memory(),
            "memory_total": self.system.total_memory(),
            "disk_used": disk.map(|(used, _)| used),
            "disk_total": disk.map(|(_, total)| total),
        })
    }
}

/// What `GET /info` has, as far as it is shown.
#[derive(Deserialize)]
struct Info {
    connections: u64,
    events_published: u64,
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    events_delivered: u64,
    bytes_sent: u64,
}

#[derive(Clone, Copy)]
struct Counts {
    at: Instant,
    connections: u64,
    published: u64,
    delivered: u64,
    bytes: u64,
}

impl Counts {
    async fn ask(app: &App) -> Result<Self, Refusal> {
        let info: Info = app.push.get(&["info"]).await?;
        Ok(Self {
            at: Instant::now(),
            connections: info.connections,
            published: info.events_published,
            delivered: info.shards.iter().map(|shard| shard.events_delivered).sum(),
            bytes: info.shards.iter().map(|shard| shard.bytes_sent).sum(),
        })
    }

    /// Counts become rates.
    fn since(&self, before: &Self) -> Value {
        let seconds = (self.at - before.at).as_secs_f64();
        // A Tidegate that was started again counts from 0.
        #[expect(clippy::cast_precision_loss, reason = "nobody sees the 16th digit")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        json!({
            "connections": self.connections,
            "published_per_s": rate(self.published, before.published),
            "delivered_per_s": rate(self.delivered, before.delivered),
            "bytes_per_s": rate(self.bytes, before.bytes),
        })
    }
}
