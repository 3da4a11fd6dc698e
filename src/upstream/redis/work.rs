//! The thread of the link: runs its commands, brings it what happens, and tells what it tells.

use std::collections::HashMap;
use std::sync::Arc;

use redis::RedisError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::order::redis::call::{AttachAnswer, Batch, Beyond};
use crate::order::redis::link::{Command, ConnNo, Happened, Link, LinkState, Output, Ticket, Told};
use crate::order::redis::scripts::Keep;
use crate::types::clock::Clock;
use crate::types::moment::Moment;
use crate::upstream::redis::address::Address;
use crate::upstream::redis::conn::{NoPair, Pair};
use crate::upstream::redis::handle::{AppendError, Appended, Asked, Follower, Request, Setup};
use crate::upstream::redis::stats::{Fate, LinkStats};

type Answer<O> = oneshot::Sender<Result<Appended<O>, AppendError>>;

/// Someone who waits for the answer to a batch.
struct Waiting<O> {
    answer: Answer<O>,
    /// The number of the batch's events.
    count: u32,
    since: Moment,
    /// Its share of the bytes that may be unanswered.
    _share: OwnedSemaphorePermit,
}

/// Something that happened to a pair of connections.
struct Event {
    no: ConnNo,
    what: Happened,
    /// The pair, if it was opened just now.
    pair: Option<Pair>,
    /// Why it broke.
    cause: Option<String>,
}

/// What the commands need.
struct Place {
    address: Address,
    keep: Keep,
    life: String,
    beyond: Option<Beyond>,
}

pub(super) struct Work<F: Follower> {
    link: Link,
    clock: Clock,
    place: Arc<Place>,
    follower: F,
    /// The connections with this number, once they are open.
    no: ConnNo,
    pair: Option<Pair>,
    /// The commands that are under way on them, and the attempt to open them. They end with the value, and with the last of
    /// them the connections are closed.
    under_way: JoinSet<()>,
    waiting: HashMap<Ticket, Waiting<F::Outcome>>,
    /// What became of a batch that is still waited for, until its answer comes: at once.
    outcomes: HashMap<Ticket, F::Outcome>,
    confirms: HashMap<Ticket, Asked>,
    /// Whether the last confirmation came.
    is_confirmed: bool,
    waiting_max: usize,
    next_ticket: u64,
    events: mpsc::UnboundedSender<Event>,
    /// At most as many as commands that are under way: some.
    happened: mpsc::UnboundedReceiver<Event>,
    /// Why the last pair was of no use.
    cause: String,
    stats: Arc<LinkStats>,
}

impl<F: Follower> Work<F> {
    pub(super) fn new(setup: Setup, follower: F) -> Self {
        let clock = Clock::start();
        let (life, beyond) = (setup.settings.life.clone(), setup.beyond);
        let place = Place { address: setup.address, keep: setup.keep, life, beyond };
        let (events, happened) = mpsc::unbounded_channel();
        Self {
            link: Link::new(setup.settings, fastrand::u64(..), clock.now()),
            clock,
            place: Arc::new(place),
            follower,
            no: ConnNo::default(),
            pair: None,
            under_way: JoinSet::new(),
            waiting: HashMap::new(),
            confirms: HashMap::new(),
            is_confirmed: true,
            outcomes: HashMap::new(),
            waiting_max: setup.unanswered_max,
            next_ticket: 0,
            events,
            happened,
            cause: String::new(),
            stats: setup.stats,
        }
    }

    /// Runs until `stopped`.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request<F::Outcome>>,
        mut confirms: mpsc::Receiver<Asked>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        loop {
            self.act();
            let due = Instant::from_std(self.clock.instant(self.link.due()));
            // Each of these loses nothing when it is dropped.
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                Some(event) = self.happened.recv() => self.event(event),
                Some(request) = requests.recv(), if self.waiting.len() < self.waiting_max => {
                    self.request(request);
                }
                Some(asked) = confirms.recv() => self.confirm(asked),
                () = sleep_until(due) => self.link.wake(self.clock.now()),
            }
        }
    }

    fn request(&mut self, request: Request<F::Outcome>) {
        let Request { body, count, once, answer, share } = request;
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let now = self.clock.now();
        self.waiting.insert(ticket, Waiting { answer, count, since: now, _share: share });
        self.link.submit(now, ticket, Batch { body, count, once });
    }

    fn confirm(&mut self, asked: Asked) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.confirms.insert(ticket, asked);
        self.link.confirm(self.clock.now(), ticket);
    }

    fn confirmed(&mut self, ticket: Ticket, is_confirmed: bool) {
        match (self.is_confirmed, is_confirmed) {
            (true, false) => tracing::warn!("no confirmation beyond Redis; publishes are answered with 503"),
            (false, true) => tracing::info!("publishes are confirmed beyond Redis again"),
            _ => {}
        }
        self.is_confirmed = is_confirmed;
        if !is_confirmed {
            self.stats.unconfirmed.add();
        }
        if let Some(asked) = self.confirms.remove(&ticket) {
            // Whoever asked may be gone.
            let _ = asked.send(is_confirmed);
        }
    }

    fn event(&mut self, event: Event) {
        if event.no != self.no {
            return;
        }
        if let Some(cause) = event.cause {
            self.cause = cause;
        }
        if event.pair.is_some() {
            self.pair = event.pair;
        }
        if let Happened::Attached(AttachAnswer::Here(_)) = event.what {
            self.stats.attaches.add();
        }
        self.link.happened(self.clock.now(), event.no, event.what);
    }

    /// Does and tells everything that the link wants.
    fn act(&mut self) {
        while let Some(output) = self.link.next_output() {
            match output {
                Output::Do(no, command) => self.command(no, command),
                Output::Tell(told) => self.tell(told),
            }
        }
        if let Some(echoed) = self.link.echoed_at() {
            self.stats.note_echo(self.clock.instant(echoed));
        }
    }

    fn tell(&mut self, told: Told) {
        match told {
            Told::Apply(batch) => {
                self.stats.applied_batches.add();
                self.stats.applied_events.add_many(batch.count.into());
                let mine = batch.mine;
                let outcome = self.follower.apply(batch);
                self.outcomes.extend(mine.map(|ticket| (ticket, outcome)));
            }
            Told::Adopt(adopted) => {
                self.stats.note_loss(adopted.loss);
                self.follower.adopt(adopted);
            }
            Told::Placed(ticket, placed) => {
                let outcome = self.outcomes.remove(&ticket);
                self.answer(ticket, Ok(Appended::Placed(placed, outcome)));
            }
            Told::Repeated(ticket, repeat) => self.answer(ticket, Ok(Appended::Repeat(repeat))),
            Told::Refused(ticket, why) => self.answer(ticket, Err(why.into())),
            Told::Unknown(ticket) => self.answer(ticket, Err(AppendError::Unknown)),
            Told::Confirmed(ticket) => self.confirmed(ticket, true),
            Told::Unconfirmed(ticket) => self.confirmed(ticket, false),
            Told::State(state) => self.state(state),
        }
    }

    fn state(&mut self, state: LinkState) {
        match state {
            LinkState::Lost => tracing::warn!(cause = self.cause, "Redis is lost"),
            LinkState::Unfit(why) => tracing::error!(reason = %why, "Redis cannot be used"),
            LinkState::Live => tracing::info!("Redis is followed"),
            state => tracing::debug!(state = state.as_str(), "the link to Redis"),
        }
        self.stats.note_state(state);
        self.follower.state(state);
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Appended<F::Outcome>, AppendError>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        match &result {
            Ok(Appended::Placed(..)) => {
                let took = self.clock.now().since(waiting.since);
                self.stats.times.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), 1);
                self.stats.appended_events.add_many(waiting.count.into());
                self.stats.note(Fate::Placed);
            }
            Ok(Appended::Repeat(_)) => self.stats.note(Fate::Repeated),
            Err(err) => self.stats.note(err.fate()),
        }
        // Whoever asked may be gone.
        let _ = waiting.answer.send(result);
    }

    fn command(&mut self, no: ConnNo, command: Command) {
        let (place, events) = (self.place.clone(), self.events.clone());
        // What has ended leaves nothing behind.
        while self.under_way.try_join_next().is_some() {}
        match (command, self.pair.clone()) {
            (Command::Connect, _) => {
                self.close(no);
                self.under_way.spawn(async move {
                    // A failed send means that the thread ends. So it does below.
                    let _ = events.send(opened(no, Pair::open(&place.address, place.beyond).await));
                });
            }
            (Command::Close, _) => self.close(no),
            (command, Some(pair)) => {
                self.under_way.spawn(async move {
                    let _ = events.send(done(no, run(command, pair, &place).await));
                });
            }
            // Without a pair the link asks for nothing.
            (_, None) => {}
        }
    }

    fn close(&mut self, no: ConnNo) {
        self.no = no;
        self.pair = None;
        self.under_way = JoinSet::new();
    }
}

async fn run(command: Command, pair: Pair, place: &Place) -> Result<Happened, RedisError> {
    match command {
        Command::Attach(call) => pair.attach(&place.keep, &call).await,
        Command::Append(call) => pair.append(&place.keep, &place.life, &call).await,
        Command::Confirm => pair.confirm(&place.keep, &place.life).await,
        Command::Probe(id) => pair.probe(&place.keep, id).await,
        Command::Read(after, entries_max) => pair.read(&place.keep, after, entries_max).await,
        Command::Connect | Command::Close => unreachable!("they are for no pair"),
    }
}

fn done(no: ConnNo, result: Result<Happened, RedisError>) -> Event {
    let (what, cause) = match result {
        Ok(what) => (what, None),
        Err(err) => (Happened::Broken, Some(err.to_string())),
    };
    Event { no, what, pair: None, cause }
}

fn opened(no: ConnNo, result: Result<Pair, NoPair>) -> Event {
    let (what, pair, cause) = match result {
        Ok(pair) => (Happened::Connected(Ok(())), Some(pair), None),
        Err(NoPair::Unfit(why)) => (Happened::Connected(Err(why)), None, None),
        Err(NoPair::Failed(cause)) => (Happened::Broken, None, Some(cause)),
    };
    Event { no, what, pair, cause }
}
