//! Shards and sockets: steps, room to write, clients that leave, commands that close.

use futures_channel::oneshot;
use tidegate::hub::mailbox::Command;
use tidegate::shard::Step;
use tidegate::shard::conn::ConnKey;
use tidegate::shard::reason::CloseReason;

use super::super::listener::Listener;
use super::super::net::Temper;
use super::super::plan::USERS;
use super::{Life, Node, room_name, user_name};

impl Life<'_> {
    pub(super) fn step_any(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        self.step(at);
    }

    pub(super) fn step(&mut self, at: usize) -> Step {
        let now = self.moment();
        let step = self.nodes[at].shard.step(now);
        self.nodes[at].shard.settle(now);
        self.say(|| format!("step of shard {at}: {step:?}"));
        self.collect(at);
        step
    }

    /// Announces room to write on one socket, or all, of a shard.
    pub(super) fn poke_any(&mut self) {
        let at = self.rng.usize(0..self.nodes.len());
        let all = self.rng.bool();
        for key in self.blocked(at) {
            if all || self.rng.bool() {
                self.poke(at, key);
            }
        }
    }

    pub(super) fn blocked(&mut self, at: usize) -> Vec<usize> {
        let node = &mut self.nodes[at];
        let wires = &node.shard.net_mut().wires;
        let is_ready = |wire: &&usize| wires[**wire].wants_write && wires[**wire].temper != Temper::Stuck;
        node.live.iter().filter(is_ready).copied().collect()
    }

    pub(super) fn poke(&mut self, at: usize, wire: usize) {
        let now = self.moment();
        let shard = &mut self.nodes[at].shard;
        let key = shard.net_mut().wires[wire].key;
        shard.net_mut().poked = Some(wire);
        shard.on_writable(key, now);
        shard.net_mut().poked = None;
        self.say(|| format!("socket {wire} of shard {at} had room"));
        self.collect(at);
    }

    pub(super) fn any_live(&mut self) -> Option<(usize, usize)> {
        let at = self.rng.usize(0..self.nodes.len());
        let wire = *self.rng.choice(&self.nodes[at].live)?;
        Some((at, wire))
    }

    /// Ends a connection from its client's side, or lets its next write fail.
    pub(super) fn end_any(&mut self) {
        let Some((at, wire)) = self.any_live() else {
            return;
        };
        if self.one_in(4) {
            self.say(|| format!("socket {wire} of shard {at} breaks"));
            self.nodes[at].shard.net_mut().wires[wire].breaks = true;
        } else {
            self.cut(at, wire);
        }
    }

    pub(super) fn cut(&mut self, at: usize, wire: usize) {
        self.say(|| format!("the client ends {wire} of shard {at}"));
        let now = self.moment();
        let reason =
            *self.rng.choice(&[CloseReason::Client, CloseReason::Error, CloseReason::Flood]).unwrap();
        let node = &mut self.nodes[at];
        node.listeners[wire].ended_by_us = Some(reason);
        let key = node.shard.net_mut().wires[wire].key;
        node.shard.on_closed(key, reason, now);
        assert!(node.shard.net_mut().wires[wire].is_closed);
        self.collect(at);
    }

    pub(super) fn change_a_temper(&mut self) {
        let Some((at, wire)) = self.any_live() else {
            return;
        };
        let temper = *self.rng.choice(&[Temper::Eager, Temper::Moody, Temper::Stuck]).unwrap();
        if temper == Temper::Eager || self.plan.moody > 0 {
            self.say(|| format!("socket {wire} of shard {at} becomes {temper:?}"));
            self.nodes[at].shard.net_mut().wires[wire].temper = temper;
        }
    }

    /// The key of a connection that has ended does nothing, whatever connection has its slot now.
    pub(super) fn use_a_stale_key(&mut self) {
        let (at, now) = (self.rng.usize(0..self.nodes.len()), self.moment());
        let node = &mut self.nodes[at];
        let wires = &node.shard.net_mut().wires;
        let closed: Vec<ConnKey> = wires.iter().filter(|wire| wire.is_closed).map(|wire| wire.key).collect();
        if let Some(key) = self.rng.choice(&closed) {
            node.shard.on_writable(*key, now);
            node.shard.on_closed(*key, CloseReason::Client, now);
            assert!(node.shard.net_mut().closed.is_empty());
        }
    }

    /// Closes a user's connections in a room, at one shard.
    pub(super) fn disconnect(&mut self) {
        let (user, room) = (self.rng.usize(0..USERS), self.rng.usize(0..self.plan.rooms));
        let at = self.rng.usize(0..self.nodes.len());
        let (Some(inbox), Some(source)) =
            (self.hub.users().get(&user_name(user)), self.hub.rooms().get(&room_name(room)))
        else {
            return;
        };
        let of_both = |listener: &Listener| listener.user == Some(user) && listener.rooms.contains(&room);
        let is_meant = |node: &Node| -> Vec<usize> {
            node.live.iter().copied().filter(|wire| of_both(&node.listeners[*wire])).collect()
        };
        let before = is_meant(&self.nodes[at]);
        let (reply, mut closed) = oneshot::channel();
        let sent = self.hub.mailbox(at).send(Command::Disconnect { user: inbox, room: source, reply });
        assert!(sent.is_ok());
        self.say(|| format!("disconnect user {user} from room {room} at shard {at}"));
        for wire in &before {
            // One with a full socket stays for a while, but not in that room.
            let listener = &mut self.nodes[at].listeners[*wire];
            if listener.is_present_in(room) {
                self.graces.remove(&(user, room));
            }
            listener.withdrawn.push(room);
        }
        if self.step(at) == Step::Again {
            return;
        }
        let closed = closed.try_recv().expect("it was handled").expect("it was answered") as usize;
        assert!(closed <= before.len(), "{closed} closed of {}", before.len());
        for wire in is_meant(&self.nodes[at]) {
            assert!(self.nodes[at].shard.net_mut().wires[wire].wants_write, "only the stuck stay");
        }
    }
}
