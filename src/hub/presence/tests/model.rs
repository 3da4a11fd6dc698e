//! Random lives of a room against a model that is too simple to be wrong: a list of streams, and who is a member.

use super::*;

/// A stream of the model.
#[derive(Clone, Debug)]
struct Stream {
    user: String,
    seat: Seat,
    /// Whether it counts: its user was not withdrawn since.
    counts: bool,
}

/// A member of the model.
#[derive(Clone, Debug, Default)]
struct Known {
    data: Option<String>,
    /// Since when it has no stream that counts.
    gone: Option<Moment>,
}

struct Life {
    rng: fastrand::Rng,
    world: World,
    policy: PresencePolicy,
    streams: Vec<Stream>,
    members: BTreeMap<String, Known>,
    readers: Vec<Reader>,
    /// The newest message, when it came, and whether it was a count.
    last: Option<(u64, Moment, bool)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let policy = PresencePolicy {
            names: rng.u32(0..8) > 0,
            grace: [Duration::ZERO, SECOND, SECOND * 15][rng.usize(0..3)],
            interval: [SECOND / 10, SECOND, SECOND * 3][rng.usize(0..3)],
            members_max: rng.usize(1..12),
        };
        let (streams, members, readers) = Default::default();
        Self { rng, world: World::new(policy), policy, streams, members, readers, last: None }
    }

    fn step(&mut self) {
        let user = self.rng.u32(0..12).to_string();
        match self.rng.u32(0..100) {
            0..25 => self.enter(user),
            25..45 => self.leave(),
            45..57 => self.put(&user),
            57..60 => self.withdraw(&user),
            60..66 => self.begin(),
            66..69 => self.reload(),
            69..82 => self.pull(),
            _ => {
                let time = Duration::from_millis(self.rng.u64(0..2500));
                self.pass(time);
            }
        }
        self.check_pace();
    }

    fn enter(&mut self, user: String) {
        let seat = self.world.enter(&user);
        self.members.entry(user.clone()).or_default().gone = None;
        self.streams.push(Stream { user, seat, counts: true });
    }

    fn leave(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let Stream { user, seat, counts } = self.streams.swap_remove(self.rng.usize(0..self.streams.len()));
        let at_once = self.rng.u32(0..3) == 0;
        self.world.leave(&user, seat, at_once);
        if !counts || self.streams.iter().any(|stream| stream.user == user && stream.counts) {
            return;
        }
        if at_once || self.policy.grace.is_zero() {
            self.members.remove(&user);
        } else if let Some(member) = self.members.get_mut(&user) {
            member.gone = Some(self.world.now);
        }
    }

    fn put(&mut self, user: &str) {
        let data = (self.rng.u32(0..4) > 0).then(|| self.rng.u32(0..3).to_string());
        let put = self.world.put(user, data.as_deref());
        let member = self.members.get_mut(user);
        assert_eq!(matches!(put, Put::NotPresent), member.is_none(), "{user}");
        if let (Put::Done { .. }, Some(member)) = (put, member) {
            member.data = data;
        }
    }

    fn withdraw(&mut self, user: &str) {
        self.world.withdraw(user);
        self.members.remove(user);
        for stream in self.streams.iter_mut().filter(|stream| stream.user == user) {
            stream.counts = false;
        }
    }

    fn begin(&mut self) {
        let view = if self.rng.u32(0..4) == 0 { View::Counts } else { View::Names };
        if self.readers.len() == 12 {
            self.readers.swap_remove(self.rng.usize(0..12));
        }
        self.readers.push(self.world.reader(view));
    }

    /// The interval stays, so that the pace can be checked.
    fn reload(&mut self) {
        self.policy.members_max = self.rng.usize(1..12);
        self.policy.names = self.rng.u32(0..8) > 0;
        self.world.set_policy(Some(self.policy));
    }

    fn pull(&mut self) {
        if !self.readers.is_empty() {
            let at = self.rng.usize(0..self.readers.len());
            self.readers[at].pull(&self.world);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            let step = Duration::from_millis(100).min(end.since(self.world.now));
            self.world.pass(step);
            let (now, grace) = (self.world.now, self.policy.grace);
            self.members.retain(|_, member| member.gone.is_none_or(|gone| gone + grace > now));
            self.check_pace();
        }
    }

    /// Messages come no more often than they may.
    fn check_pace(&mut self) {
        let rev = self.world.page().rev;
        if self.readers.is_empty() {
            return;
        }
        let Some((last, at, was_count)) = self.last else {
            // What came before the first reader went to nobody.
            self.last = Some((rev, Moment(0), false));
            return;
        };
        if rev == last {
            return;
        }
        assert_eq!(rev, last + 1, "two messages at once");
        let intervals = if was_count { COUNT_INTERVALS } else { 1 };
        assert!(self.world.now >= at + self.policy.interval * intervals, "too early");
        let told = Told { rev: last, ..self.readers[0].told };
        let is_count = match self.world.presence.messages_after(&self.world.room, told) {
            Messages::Next(messages) => messages[0]
                .bytes(View::Names)
                .is_some_and(|bytes| bytes.windows(7).any(|text| text == b"\"count\"")),
            Messages::None | Messages::Behind => false,
        };
        self.last = Some((rev, self.world.now, is_count));
    }

    /// Once nothing changes any more, every reader knows exactly who is there.
    fn end(&mut self) {
        for _ in 0..40 {
            self.pass(SECOND);
            // In time for the messages: who is late gets a state, which hides what a message left out.
            self.readers.iter_mut().for_each(|reader| reader.pull(&self.world));
        }
        assert_eq!(self.world.members(), self.members.keys().cloned().collect::<Vec<_>>());
        let streams = self.streams.iter().filter(|stream| stream.counts).count();
        assert_eq!(self.world.page().connections as usize, streams);
        let members: BTreeMap<_, _> =
            self.members.iter().map(|(user, known)| (user.clone(), known.data.clone())).collect();
        for reader in &mut self.readers {
            reader.pull(&self.world);
            assert_eq!(reader.total, members.len() as u64, "{reader:?}");
            if let Some(known) = &reader.members {
                assert_eq!(*known, members);
            }
            let is_small = members.len() * 5 < self.policy.members_max * 4;
            let sees_names = self.policy.names && reader.view == View::Names;
            assert!(!is_small || !sees_names || reader.members.is_some(), "it is small: {reader:?}");
        }
    }
}

#[test]
fn whoever_follows_the_messages_knows_who_is_there() {
    for seed in 0..500 {
        // Seeds are part of a failure's output.
        println!("seed {seed}");
        let mut life = Life::new(seed);
        for _ in 0..150 {
            life.step();
        }
        life.end();
    }
}
