//! How a life ends: in a crash, at rest with everything delivered, or with a drain.

use tidegate::shard::Step;
use tidegate::shard::conn::flag;

use super::super::listener::Listener;
use super::super::net::Temper;
use super::Life;
use super::rights::LASTS_MAX;

/// Longest pause between two flushes that waits for the clock.
#[allow(clippy::cast_possible_truncation, reason = "a tenth of a second")]
const FLUSH_PAUSE_MICROS: u64 = tidegate::shard::flush::FLUSH_PAUSE_MAX.as_micros() as u64 + 1;

/// Time in which a shard checks all rights that have an end, in microseconds.
const SESSION_ROUND: u64 = 500_000;

impl Life<'_> {
    pub(super) fn end(&mut self) {
        match self.rng.u32(0..8) {
            // A crash: only what was sent counts.
            0 => return self.check_tallies(),
            1..3 => self.drain(),
            3..6 => {
                self.come_to_rest();
                self.check_presence();
                self.tidy();
            }
            _ => {
                self.come_to_rest();
                self.let_rights_end();
            }
        }
        self.check_counts();
        self.leave();
        self.check_tallies();
        self.forget();
    }

    /// Frees every socket and lets the shards finish. Then every subscriber has everything.
    pub(super) fn come_to_rest(&mut self) {
        self.say(|| "come to rest".into());
        while let Some(waiting) = self.waiting.pop() {
            self.join(waiting);
        }
        for node in &mut self.nodes {
            for wire in &mut node.shard.net_mut().wires {
                (wire.temper, wire.breaks) = (Temper::Eager, false);
            }
        }
        for round in 0.. {
            assert!(round < 10_000, "the shards come to rest");
            let mut rests = round >= 4;
            for at in 0..self.nodes.len() {
                for wire in self.blocked(at) {
                    self.poke(at, wire);
                }
                while self.step(at) == Step::Again {}
                let busy = flag::BLOCKED | flag::QUEUED | flag::DEFERRED | flag::MARKED;
                rests &= self.nodes[at].shard.conns().iter().all(|(_, conn)| !conn.has(busy));
            }
            if rests {
                break;
            }
            self.now += u64::try_from(self.plan.flush_interval.as_micros()).unwrap() + 1;
            if round == 2 || round > 10 {
                // A flush that took long is followed by a pause.
                self.now += FLUSH_PAUSE_MICROS;
            }
        }
        self.check_rest();
    }

    /// Checks that every subscriber has everything.
    fn check_rest(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            for (wire, listener) in node.live_ones() {
                let (client, _) = listener.hear(&node.shard.net().wires[wire]);
                let walk = listener.walk(client.items(), &self.order, self.hub.epoch());
                assert!(walk.begun, "everyone is welcomed");
                assert!(listener.opening.gap.is_none() || !walk.gaps.is_empty(), "the gap was told");
                let has_replay = walk.has_replay || listener.opening.replay.is_none();
                assert!(has_replay, "the policies bring something: {listener:?}");
                assert!(!walk.must_close, "its room ends streams that lose events: {listener:?}");
                assert_eq!(walk.mutings, listener.mutings, "told of each mute: {listener:?}");
                let owed = self.order.next_for(listener, walk.position);
                assert_eq!(owed, None, "socket {wire} of shard {at} is still owed, after {}", walk.position);
            }
        }
    }

    /// Lets all rights with an end expire: first their subscribers are warned; later these are closed, and no others.
    fn let_rights_end(&mut self) {
        self.say(|| "let rights end".into());
        let may_stay = |listener: &&Listener| {
            !listener.poll && listener.rights.newest().is_none_or(|token| token.ends.is_none())
        };
        let staying = self.live().filter(may_stay).count();
        self.let_pass(SESSION_ROUND);
        for node in &mut self.nodes {
            for wire in &node.live {
                let listener = &node.listeners[*wire];
                let (client, _) = listener.hear(&node.shard.net_mut().wires[*wire]);
                let walk = listener.walk(client.items(), &self.order, self.hub.epoch());
                assert_eq!(walk.warnings, listener.rights.warnings(), "warnings: {listener:?}");
            }
        }
        self.let_pass(LASTS_MAX);
        assert!(
            self.live().all(|listener| may_stay(&listener)),
            "nobody outlives its right, and no poll its time"
        );
        let left = self.live().filter(may_stay).count();
        assert!(left == staying || self.plan.lease.is_some(), "{left} are left of {staying} who may stay");
    }

    fn let_pass(&mut self, micros: u64) {
        self.now += micros;
        for at in 0..self.nodes.len() {
            while self.step(at) == Step::Again {}
        }
    }

    /// Drains. A subscriber that takes what it is sent gets a closing event.
    pub(super) fn drain(&mut self) {
        self.say(|| "drain".into());
        self.hub.drain();
        let until = self.now + u64::try_from(self.plan.drain.as_micros()).unwrap() + 300_000;
        let mut drained = vec![false; self.nodes.len()];
        while !drained.iter().all(|drained| *drained) {
            assert!(self.now <= until, "the drain ends");
            for (at, drained) in drained.iter_mut().enumerate() {
                for wire in self.blocked(at) {
                    self.poke(at, wire);
                }
                // Once is enough: a subscriber that joins later gets its closing event as it joins.
                *drained |= loop {
                    match self.step(at) {
                        Step::Again => {}
                        step => break step == Step::Drained,
                    }
                };
            }
            if self.one_in(4) {
                self.join_a_waiting_one();
            }
            self.now += self.rng.u64(1..40_000);
        }
        self.waiting.clear();
        for at in 0..self.nodes.len() {
            // For subscribers that joined at the last moment.
            while self.step(at) != Step::Drained {
                self.now += 40_000;
            }
        }
    }

    /// Closes all connections, and checks that every place is given back.
    pub(super) fn leave(&mut self) {
        self.waiting.clear();
        for at in 0..self.nodes.len() {
            for wire in self.nodes[at].live.clone() {
                self.cut(at, wire);
            }
            while self.step(at) == Step::Again {}
        }
        self.check_counts();
        assert_eq!(self.hub.connections(), 0, "every place is given back");
    }

    /// Without subscribers, all state is freed in time.
    pub(super) fn forget(&mut self) {
        self.now += u64::try_from(self.plan.history.age_max.as_micros()).unwrap();
        for at in 0..self.nodes.len() {
            // Sources that wait for a flush stay until then, and the flush waits for a pause at most.
            while self.step(at) == Step::Again {}
            self.now += FLUSH_PAUSE_MICROS;
            while self.step(at) == Step::Again {}
        }
        // Graces end, and then the messages about it are forgotten.
        for _ in 0..3 {
            self.let_pass(3_000_000);
        }
        for _ in 0..48 {
            self.hub.tidy(self.moment());
        }
        assert_eq!(self.hub.history(), (0, 0), "all events expire");
        assert!(self.hub.rooms().is_empty(), "empty rooms vanish");
        assert!(self.hub.users().is_empty(), "so do users");
    }
}
