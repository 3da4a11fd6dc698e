//! What the policy of a room says, in the simulation.

use std::time::Duration;

use fastrand::Rng;
use tidegate::hub::history::HistoryBounds;
use tidegate::hub::room_policy::{PresencePolicy, Replay, RoomPolicy, Slow};

use super::held::Rules;
use super::plan::USERS;

/// What the policy of a room says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub conflates: bool,
    pub stores: bool,
    pub slow: Slow,
    pub replay: Replay,
    pub history: HistoryBounds,
    pub flush_interval: Option<Duration>,
    pub listeners_max: Option<u32>,
    pub presence: Option<PresencePolicy>,
}

impl Kind {
    /// A room without a policy.
    pub(crate) fn plain(history: HistoryBounds) -> Self {
        Self {
            conflates: false,
            stores: true,
            slow: Slow::Gap,
            replay: Replay::Off,
            history,
            flush_interval: None,
            listeners_max: None,
            presence: None,
        }
    }

    pub(crate) fn draw(rng: &mut Rng, history: HistoryBounds) -> Self {
        let mut kind = Self { conflates: rng.bool(), stores: rng.u32(0..4) > 0, ..Self::plain(history) };
        kind.slow = *rng.choice(&[Slow::Gap, Slow::Gap, Slow::Close, Slow::Latest]).expect("some");
        kind.presence = rng.bool().then(|| presence(rng));
        kind.draw_replay(rng);
        kind.draw_history(rng);
        kind.draw_listeners(rng);
        kind.flush_interval = (rng.u32(0..4) == 0).then(|| Duration::from_millis(rng.u64(0..20)));
        kind
    }

    pub(crate) fn draw_replay(&mut self, rng: &mut Rng) {
        let count = rng.usize(1..12);
        let replays = [Replay::Off, Replay::Latest, Replay::Latest, Replay::Newest(count)];
        self.replay = *rng.choice(&replays).expect("some");
    }

    pub(crate) fn draw_history(&mut self, rng: &mut Rng) {
        self.history.log.events_max = *rng.choice(&[0, 1, 2, 3, 5, 10, 20]).expect("some");
        if rng.u32(0..5) == 0 {
            self.history.age_max = Duration::from_millis(rng.u64(10..500));
        }
        if rng.u32(0..8) == 0 {
            self.history.log.bytes_max = rng.usize(200..3000);
        }
    }

    pub(crate) fn draw_listeners(&mut self, rng: &mut Rng) {
        self.listeners_max = (rng.u32(0..4) == 0).then(|| rng.u32(0..4));
    }

    /// What the settings say, for a server whose flush interval is `interval`.
    pub(crate) fn policy(&self, interval: Duration) -> RoomPolicy {
        RoomPolicy {
            store: self.stores,
            conflate: self.conflates.then_some(interval),
            slow: self.slow,
            replay: self.replay,
            flush_interval: self.flush_interval,
            listeners_max: self.listeners_max,
            presence: self.presence,
            ..RoomPolicy::of_server(self.history.log, self.history.age_max)
        }
    }

    /// Whether its members are named however many they are.
    pub(crate) fn names_always(&self) -> bool {
        self.presence.is_some_and(|presence| presence.names && presence.members_max >= USERS)
    }

    /// What it says about the room's log.
    pub(crate) fn rules(&self) -> Rules {
        let is_latest = self.replay == Replay::Latest || self.slow == Slow::Latest;
        let keeps_newest = is_latest && !self.conflates;
        Rules { conflates: self.conflates, keeps_newest, events_max: self.history.log.events_max }
    }
}

/// How long a member stays after its last connection, in the simulation.
pub(crate) const GRACE: Duration = Duration::from_millis(150);

/// Members are named, or counted, or named while they are few.
pub(crate) fn presence(rng: &mut Rng) -> PresencePolicy {
    let members_max = *rng.choice(&[1, 2, 100, 100]).expect("some");
    let interval = Duration::from_millis(40);
    PresencePolicy { names: rng.u32(0..4) > 0, grace: GRACE, interval, members_max }
}
