//! Tells the other nodes of a shared order what they have to know, and asks them.

use std::pin::pin;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::nodes::{Peers, REPORT_BYTES, answer, said};
use crate::engine::shared::Shared;
use crate::order::entry;
use crate::order::nodes::HERE_EVERY;
use crate::order::report::{Answer, Question, Report};
use crate::types::name::{RoomName, UserName};

/// How often members are reported whose changes are not urgent: within it, a reload of a page is no change.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// How long a node that starts waits for what the others have. One that was killed a moment ago says nothing.
const HELLO_WITHIN: Duration = Duration::from_secs(1);

/// How long an answer of another node is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long the end of a node waits for its last report.
const BYE_WITHIN: Duration = Duration::from_secs(1);

/// What all nodes answered.
#[derive(Debug)]
pub struct Answers {
    /// The answers, this node's first.
    pub answers: Vec<Answer>,
    /// Nodes that did not answer in time.
    pub missing: usize,
}

/// Reports for as long as it is run.
pub async fn run(engine: &Engine) {
    let Some(shared) = engine.shared.get() else { return std::future::pending().await };
    let mut report = tokio::time::interval(REPORT_EVERY);
    let mut here = tokio::time::interval(HERE_EVERY);
    loop {
        tokio::select! {
            _ = report.tick() => {}
            _ = here.tick() => shared.say(&shared.peers().here(engine)).await,
            () = urgent(engine, shared.peers()) => {}
        }
        shared.report(engine).await;
    }
}

/// Ends when something is to be reported at once.
async fn urgent(engine: &Engine, peers: &Peers) {
    let members = std::future::poll_fn(|cx| engine.hub.presence().poll_urgent(cx.waker()));
    tokio::select! {
        () = members => {}
        () = peers.urgent.notified() => {}
    }
}

impl Engine {
    /// Asks all nodes of the order; this one alone, if there are no others.
    pub async fn ask(&self, question: Question) -> Answers {
        match self.shared.get() {
            Some(shared) => shared.ask(self, question).await,
            None => Answers { answers: vec![answer(self, &question)], missing: 0 },
        }
    }
}

impl Shared {
    /// Says hello, and returns once the others have told of their members, or had the time to.
    pub async fn hello(&self, engine: &Engine) {
        self.say(&Report::Hello).await;
        let told = async {
            loop {
                let mut changed = pin!(self.peers().changed.notified());
                changed.as_mut().enable();
                if self.peers().all_have_told() {
                    return;
                }
                changed.await;
            }
        };
        // Nodes that start together answer each other.
        tokio::select! {
            _ = tokio::time::timeout(HELLO_WITHIN, told) => {}
            () = run(engine) => {}
        }
    }

    /// Says that this node ends.
    pub async fn bye(&self) {
        let _ = tokio::time::timeout(BYE_WITHIN, self.say(&Report::Bye)).await;
    }

    /// A user leaves a room on the other nodes, too; whether this node `knew` it as a member. Returns whether the order has it.
    pub async fn withdraw(&self, room: &RoomName, user: &UserName, knew: bool) -> bool {
        self.try_say(&Report::Withdraw { room: room.clone(), user: user.clone(), knew }).await
    }

    /// Asks all nodes, and waits for their answers, some milliseconds.
    async fn ask(&self, engine: &Engine, question: Question) -> Answers {
        let mine = answer(engine, &question);
        let Some(number) = self.peers().open() else {
            let missing = self.peers().all().len().saturating_sub(1);
            return Answers { answers: vec![mine], missing };
        };
        let answered = async {
            if !self.peers().is_answered(number) {
                self.say(&Report::Ask { number, question }).await;
            }
            loop {
                let mut changed = pin!(self.peers().changed.notified());
                changed.as_mut().enable();
                if self.peers().is_answered(number) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(ANSWER_WITHIN, answered).await;
        let (others, missing) = self.peers().close(number);
        Answers { answers: std::iter::once(mine).chain(others).collect(), missing }
    }

    /// Reports everything that waits.
    async fn report(&self, engine: &Engine) {
        let presence = engine.hub.presence();
        if self.peers().take_asks_anew() {
            self.say(&Report::Hello).await;
        }
        let hellos = self.peers().take_hellos();
        if !hellos.is_empty() {
            // This task reports all of it below.
            drop(presence.report_all());
        }
        while let Some(answer) = self.peers().take_answer() {
            self.say(&answer).await;
        }
        loop {
            let reports = presence.take_reports(REPORT_BYTES);
            if reports.is_empty() {
                break;
            }
            if !self.try_say(&said(&reports, engine.clock.now())).await {
                presence.report_again(&reports);
                break;
            }
        }
        for to in hellos {
            self.say(&Report::Told { to }).await;
        }
    }

    /// Says something that is said again, or that may be missed.
    async fn say(&self, report: &Report) {
        let _ = self.try_say(report).await;
    }

    /// Says something. Returns whether the order has it.
    async fn try_say(&self, report: &Report) -> bool {
        let mut body = vec![entry::VERSION];
        entry::put_report(self.peers().me, report, &mut body);
        self.append_report(body.into()).await
    }
}
