//! What goes wrong.

use std::sync::Arc;
use std::time::Duration;

use tidegate::order::redis::link::Happened;
use tidegate::types::moment::Moment;

use super::data::Data;
use super::world::World;

impl World {
    fn soon(&mut self, within_ms: u64) -> Moment {
        self.now + Duration::from_millis(self.rng.u64(0..within_ms))
    }

    /// One thing goes wrong.
    pub(crate) fn trouble(&mut self) {
        let server = self.rng.usize(0..2);
        let node = self.rng.usize(0..self.nodes.len());
        let which = self.rng.u32(0..32);
        match which {
            4..=8 if self.is_gentle => {}
            0 => self.crash(server, Kept::All),
            1..=3 => self.crash(server, Kept::Some),
            4 => self.crash(server, Kept::Nothing),
            5 | 6 => self.go_back(server),
            7 => self.lose_keys(server),
            8 => self.take_out(server),
            9..=11 => self.cut(node),
            12 | 13 => self.servers[server].busy_until = self.soon(8_000),
            14 => self.servers[server].full_until = self.soon(8_000),
            30 | 31 => self.servers[server].closed_until = self.soon(8_000),
            15..=18 => self.replicate(),
            19..=22 => self.promote(),
            23 | 24 => self.end_split(),
            25 | 26 => self.reroute(node),
            27 => self.replace(node),
            28 => self.nodes[node].route = None,
            _ => self.all_to_a_master(),
        }
    }

    /// A process ends and another one begins with what was kept.
    fn crash(&mut self, server: usize, kept: Kept) {
        let until = self.soon(3_000);
        let replid = self.fresh_replid();
        let data = match kept {
            Kept::All => self.servers[server].data.clone(),
            Kept::Some => self.old(server),
            Kept::Nothing => Arc::default(),
        };
        self.say(|| format!("{server} crashes and keeps {kept:?}"));
        let it = &mut self.servers[server];
        it.process += 1;
        it.down_until = until;
        (it.data, it.replid) = (data, replid);
        it.is_in_step = false;
        self.look_at(server);
    }

    /// A server without an order begins another one.
    fn look_at(&mut self, server: usize) {
        let is_gone = self.servers[server].data.meta.is_none();
        self.truth.was_gone |= is_gone && self.servers[server].is_master;
    }

    /// Something that the server had.
    fn old(&mut self, server: usize) -> Arc<Data> {
        let past = &self.servers[server].past;
        if past.is_empty() {
            return Arc::default();
        }
        past[self.rng.usize(0..past.len())].clone()
    }

    /// It has what it had, under the same replication id: a snapshot of the machine, or keys that were restored.
    fn go_back(&mut self, server: usize) {
        let data = self.old(server);
        let breaks = self.rng.bool();
        self.say(|| format!("{server} goes back without a trace, connections break: {breaks}"));
        self.truth.went_back = true;
        self.servers[server].data = data;
        if breaks {
            self.servers[server].process += 1;
        }
        self.wrote(server);
    }

    fn lose_keys(&mut self, server: usize) {
        let which = self.rng.u32(0..3);
        self.say(|| format!("{server} loses keys: {which}"));
        self.truth.was_gone = true;
        self.servers[server].change(|data| match which {
            0 => *data = Data::default(),
            1 => data.log.clear(),
            _ => data.meta = None,
        });
        self.wrote(server);
    }

    fn take_out(&mut self, server: usize) {
        let length = self.servers[server].data.log.len();
        if length > 2 {
            let at = self.rng.usize(1..length - 1);
            self.say(|| format!("{server} loses an entry"));
            self.truth.was_gone = true;
            self.servers[server].change(|data| {
                let taken = data.log.remove(at);
                let last = taken.entry.id.offset;
                data.taken_out.extend(last - taken.entry.events()..=last);
            });
        }
    }

    /// A node's connections break. It hears of it, or not.
    fn cut(&mut self, node: usize) {
        self.nodes[node].conn = None;
        let no = self.nodes[node].no;
        let hears = self.rng.bool();
        self.say(|| format!("{} is cut off and hears of it: {hears}", self.nodes[node].life));
        if hears {
            self.nodes[node].link.happened(self.now, no, Happened::Broken);
            self.attend(node);
        }
    }

    /// The other server becomes a replica of the master, in step or with what the master has now.
    fn replicate(&mut self) {
        let masters: Vec<usize> = (0..2).filter(|server| self.servers[*server].is_master).collect();
        let [master] = masters[..] else { return };
        if !self.servers[master].is_up(self.now) {
            return;
        }
        let (data, replid) = (self.servers[master].data.clone(), self.servers[master].replid);
        let in_step = self.rng.bool();
        self.say(|| format!("{} replicates {master}, in step: {in_step}", 1 - master));
        let replica = &mut self.servers[1 - master];
        (replica.data, replica.replid, replica.is_in_step) = (data, replid, in_step);
        replica.past.clear();
    }

    /// The replica becomes a master. The old one dies, steps down, or does not know yet.
    fn promote(&mut self) {
        let Some(replica) = (0..2).find(|server| !self.servers[*server].is_master) else { return };
        let replid = self.fresh_replid();
        let fate = self.rng.u32(0..3);
        self.say(|| format!("{replica} is promoted, the old master's fate is {fate}"));
        let it = &mut self.servers[replica];
        (it.is_master, it.is_in_step, it.replid) = (true, false, replid);
        self.look_at(replica);
        let old = 1 - replica;
        match fate {
            0 => {
                self.servers[old].process += 1;
                self.servers[old].is_master = false;
                self.all_to_a_master();
            }
            1 => {
                self.servers[old].is_master = false;
                self.all_to_a_master();
            }
            _ => self.truth.was_split = true,
        }
    }

    /// Of two masters, one becomes a replica of the other.
    fn end_split(&mut self) {
        if self.servers.iter().all(|server| server.is_master) {
            let loser = self.rng.usize(0..2);
            self.say(|| format!("the split ends, {loser} steps down"));
            let (data, replid) = (self.servers[1 - loser].data.clone(), self.servers[1 - loser].replid);
            let it = &mut self.servers[loser];
            (it.data, it.replid, it.is_master, it.is_in_step) = (data, replid, false, true);
            if self.rng.bool() {
                self.servers[loser].process += 1;
            }
            self.wrote(loser);
            self.all_to_a_master();
        }
    }

    fn reroute(&mut self, node: usize) {
        let route = self.rng.usize(0..2);
        self.nodes[node].route = Some(route);
        self.cut(node);
    }

    fn all_to_a_master(&mut self) {
        let master = (0..2).find(|server| self.servers[*server].is_master);
        for node in &mut self.nodes {
            node.route = master;
        }
    }

    /// A node ends, and another one begins.
    fn replace(&mut self, node: usize) {
        let route = self.nodes[node].route.unwrap_or(0);
        self.say(|| format!("{} ends", self.nodes[node].life));
        self.nodes[node] = self.fresh_node(route);
        self.attend(node);
    }
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    All,
    Some,
    Nothing,
}
