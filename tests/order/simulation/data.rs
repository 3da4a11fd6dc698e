//! What a Redis has: the model of the scripts `attach` and `append`, written from their description and not from their text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate::order::redis::call::{
    AppendAnswer, AppendCall, AttachAnswer, AttachCall, Became, Oldest, OnceKey, Repeat, Whereabouts,
};
use tidegate::order::redis::entry::{Content, EntryId, LogEntry, Mark, PlacedBatch};
use tidegate::types::lineage::Lineage;
use tidegate::types::position::{Epoch, Offset};

/// The name of a replication id.
pub(crate) type Replid = u64;

/// Everything that is in a Redis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    pub meta: Option<Meta>,
    pub log: Vec<Arc<Logged>>,
    /// Newest first, four of each life.
    seqs: BTreeMap<String, Vec<(u64, Offset)>>,
    once: BTreeMap<u128, (u128, Repeat)>,
    /// For the checker: the numbers of all batches that are in this history, also of those that were trimmed.
    past: Vec<u64>,
    /// For the checker: offsets of entries that were taken out.
    pub taken_out: BTreeSet<Offset>,
}

#[derive(Clone, Debug)]
pub(crate) struct Meta {
    replid: Replid,
    pub lineage: Lineage,
    pub newest: Offset,
    tag: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub entry: LogEntry,
    before: String,
}

impl Data {
    pub(crate) fn attach(&mut self, replid: Replid, call: &AttachCall) -> AttachAnswer {
        if self.meta.as_ref().is_some_and(|meta| is_in(&meta.lineage, call.fresh)) {
            return AttachAnswer::Again;
        }
        match &self.meta {
            None => self.root(replid, call),
            Some(meta) if Some(meta.lineage.epoch()) == call.given_up => self.root(replid, call),
            Some(meta) if meta.replid != replid => self.child(replid, call),
            Some(meta) if Some(meta.lineage.epoch()) == call.epoch && meta.newest < call.seen => {
                self.root(replid, call);
            }
            Some(_) => {}
        }
        let meta = self.meta.as_ref().expect("it is there now");
        let oldest = self.log.first().map(|logged| Oldest {
            id: logged.entry.id,
            tag: logged.entry.tag.clone(),
            before: logged.before.clone(),
            events: logged.entry.events(),
        });
        let (newest, tag, lineage) = (meta.newest, meta.tag.clone(), meta.lineage.clone());
        AttachAnswer::Here(Whereabouts { newest, tag, lineage, oldest })
    }

    /// Whether [`attach`](Self::attach) would begin a term.
    pub(crate) fn would_begin(&self, replid: Replid, call: &AttachCall) -> bool {
        let mut after = self.clone();
        after.attach(replid, call);
        let epoch = |data: &Self| data.meta.as_ref().map(|meta| meta.lineage.epoch());
        epoch(&after) != epoch(self)
    }

    fn root(&mut self, replid: Replid, call: &AttachCall) {
        let newest = self.meta.as_ref().map_or(0, |meta| meta.newest);
        let first = Lineage::first_after(newest.max(call.high));
        let once = std::mem::take(&mut self.once);
        *self = Self { once, ..Self::default() };
        let lineage = Lineage::root(call.fresh, first);
        self.fork(replid, lineage, String::new());
    }

    fn child(&mut self, replid: Replid, call: &AttachCall) {
        let meta = self.meta.as_ref().expect("it is there");
        let mut lineage = meta.lineage.clone();
        lineage.fork(meta.newest, meta.newest.max(call.high), call.fresh);
        let before = meta.tag.clone();
        self.fork(replid, lineage, before);
    }

    fn fork(&mut self, replid: Replid, lineage: Lineage, before: String) {
        let (newest, tag) = (lineage.newest().first, lineage.epoch().to_string());
        self.add(EntryId::at(newest), tag.clone(), before, Content::Fork(lineage.clone()));
        self.meta = Some(Meta { replid, lineage, newest, tag });
    }

    fn add(&mut self, id: EntryId, tag: String, before: String, content: Content) {
        let entry = LogEntry { id, tag, before: Mark::of(&before), time_ms: 0, content };
        self.log.push(Arc::new(Logged { entry, before }));
    }

    pub(crate) fn append(&mut self, replid: Replid, life: &str, call: &AppendCall) -> AppendAnswer {
        let Some(meta) = &self.meta else { return AppendAnswer::Elsewhere };
        if meta.replid != replid || meta.lineage.epoch() != call.epoch || meta.newest < call.seen {
            return AppendAnswer::Elsewhere;
        }
        if let Some(seq) = call.seq {
            let known = self.seqs.get(life).map_or(&[][..], Vec::as_slice);
            if let Some((_, offset)) = known.iter().find(|(known, _)| *known == seq) {
                return AppendAnswer::Earlier(*offset);
            }
            if known.len() == 4 && known.last().is_some_and(|(oldest, _)| seq < *oldest) {
                return AppendAnswer::Stale;
            }
            return self.append_batches(life, seq, call);
        }
        let (newest, before) = (meta.newest, meta.tag.clone());
        let last = self.log.last().map(|logged| logged.entry.id);
        let sub = last.filter(|last| last.offset == newest).map_or(0, |last| last.sub + 1);
        self.add(EntryId { offset: newest, sub }, call.tag.clone(), before, Content::Tick);
        AppendAnswer::Done(newest, Vec::new())
    }

    fn append_batches(&mut self, life: &str, seq: u64, call: &AppendCall) -> AppendAnswer {
        let mut last = self.meta.as_ref().expect("it is there").newest;
        let (mut became, mut placed) = (Vec::new(), Vec::new());
        for (index, batch) in call.batches.iter().enumerate() {
            if batch.count == 0 {
                became.push(Became::Nothing);
                continue;
            }
            let found = batch.once.iter().enumerate().find_map(|(at, once)| self.claimed(at, once));
            if let Some(found) = found {
                became.push(found);
                continue;
            }
            let first = last + 1;
            last += u64::from(batch.count);
            for once in &batch.once {
                let from = first + u64::from(once.first);
                let to = from + u64::from(once.count) - 1;
                let repeat = Repeat { index: 0, epoch: call.epoch, first: from, last: to };
                self.once.insert(once.key, (once.content, repeat));
            }
            became.push(Became::Appended);
            placed.push(PlacedBatch { index, first, count: batch.count, body: batch.body.clone() });
        }
        if !placed.is_empty() {
            self.place(life, seq, call, last, placed);
        }
        AppendAnswer::Done(last, became)
    }

    fn claimed(&self, index: usize, once: &OnceKey) -> Option<Became> {
        let (content, repeat) = self.once.get(&once.key)?;
        let lineage = &self.meta.as_ref().expect("it is there").lineage;
        let became = if *content == once.content {
            Became::Repeat(Repeat { index, ..*repeat })
        } else {
            Became::Other(index)
        };
        is_in(lineage, repeat.epoch).then_some(became)
    }

    fn place(&mut self, life: &str, seq: u64, call: &AppendCall, last: Offset, placed: Vec<PlacedBatch>) {
        let meta = self.meta.as_mut().expect("it is there");
        meta.newest = last;
        let before = std::mem::replace(&mut meta.tag, call.tag.clone());
        for batch in &placed {
            let body = text(&batch.body);
            let number = body[1..].parse().expect("bodies are numbered");
            assert!(!self.past.contains(&number), "{body} is in one history twice");
            self.past.push(number);
        }
        self.add(EntryId::at(last), call.tag.clone(), before, Content::Batches(placed));
        let known = self.seqs.entry(life.to_owned()).or_default();
        known.insert(0, (seq, last));
        known.truncate(4);
    }

    /// Whether a batch was ever appended to this history.
    pub(crate) fn had(&self, body: &str) -> bool {
        body[1..].parse().is_ok_and(|number| self.past.contains(&number))
    }

    pub(crate) fn read(&self, after: EntryId, entries_max: usize) -> Vec<Option<LogEntry>> {
        let from = self.log.partition_point(|logged| logged.entry.id <= after);
        self.log[from..].iter().take(entries_max).map(|logged| Some(logged.entry.clone())).collect()
    }

    pub(crate) fn first_from(&self, id: EntryId) -> Option<LogEntry> {
        let at = self.log.partition_point(|logged| logged.entry.id < id);
        self.log.get(at).map(|logged| logged.entry.clone())
    }

    /// Drops the oldest entries.
    pub(crate) fn trim(&mut self, entries_max: usize) {
        let excess = self.log.len().saturating_sub(entries_max);
        self.log.drain(..excess);
    }

    /// What is kept above `floor`: first offset, count and body of each batch.
    pub(crate) fn batches(&self, floor: Offset) -> impl Iterator<Item = (Offset, u32, String)> {
        let from = self.log.partition_point(|logged| logged.entry.id.offset <= floor);
        let batches = self.log[from..].iter().flat_map(|logged| match &logged.entry.content {
            Content::Batches(batches) => batches.as_slice(),
            Content::Fork(_) | Content::Tick => &[],
        });
        let above = batches.filter(move |batch| batch.first > floor);
        above.map(|batch| (batch.first, batch.count, text(&batch.body)))
    }

    /// The offset above which everything is kept.
    pub(crate) fn floor(&self) -> Offset {
        let newest = self.meta.as_ref().map_or(0, |meta| meta.newest);
        self.log.first().map_or(newest, |logged| logged.entry.id.offset - logged.entry.events())
    }
}

pub(crate) fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).expect("bodies are text here")
}

fn is_in(lineage: &Lineage, epoch: Epoch) -> bool {
    lineage.terms().iter().any(|term| term.epoch == epoch)
}
