//! What really happened, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::order::redis::call::Repeat;
use tidegate::order::redis::link::{Placed, Ticket};

/// What a publisher was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Waiting,
    Placed(Placed),
    Repeated(Repeat),
    Refused,
    Unknown,
}

/// One batch that was submitted.
#[derive(Clone, Debug)]
pub(crate) struct Submitted {
    pub body: String,
    pub key: Option<(u128, u128)>,
    pub fate: Fate,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub submitted: BTreeMap<u64, Submitted>,
    by_body: BTreeMap<String, u64>,
    /// Those whose batch is to be confirmed.
    pub confirming: BTreeSet<u64>,
    /// A server went back without a trace.
    pub went_back: bool,
    /// An order was gone, or lost something in its middle: a restart may be told.
    pub was_gone: bool,
    /// There were two masters: a batch may be in both orders, and only one of them is left in the end.
    pub was_split: bool,
}

impl Truth {
    pub(crate) fn submit(&mut self, ticket: Ticket, body: String, key: Option<(u128, u128)>) {
        self.by_body.insert(body.clone(), ticket.0);
        self.submitted.insert(ticket.0, Submitted { body, key, fate: Fate::Waiting });
    }

    /// The one answer to a batch.
    pub(crate) fn answer(&mut self, ticket: Ticket, fate: Fate) -> &Submitted {
        let submitted = self.submitted.get_mut(&ticket.0).expect("it was submitted");
        assert_eq!(submitted.fate, Fate::Waiting, "{ticket:?} is answered twice, now {fate:?}");
        submitted.fate = fate;
        submitted
    }

    /// A server appended a batch.
    pub(crate) fn appended(&self, body: &str) {
        if self.was_split {
            return;
        }
        let fate = self.submitted[&self.by_body[body]].fate;
        match fate {
            Fate::Waiting | Fate::Unknown => {}
            Fate::Refused | Fate::Repeated(_) => {
                panic!("{body} is appended after its publisher was told {fate:?}")
            }
            // What went back may hold a command of then.
            Fate::Placed(_) => assert!(self.went_back, "{body} is appended again after it was acknowledged"),
        }
    }

    /// The key and content that `body` came with.
    pub(crate) fn key_of(&self, body: &str) -> Option<(u128, u128)> {
        self.submitted[&self.by_body[body]].key
    }
}
