//! One thread: accepts connections, serves HTTP, and runs its shard.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, Sleep};

use crate::engine::Engine;
use crate::engine::lifecycle::Stage;
use crate::engine::memory;
use crate::http::conn::places::{EXPIRY_INTERVAL, Patience, Places};
use crate::http::context::Context;
use crate::http::serve::{Accepted, serve};
use crate::hub::source::Source;
use crate::net::accept::{Accept, AsyncListener, Listener, classify};
use crate::net::stream::Stream;
use crate::shard::Step;
use crate::shard::conn::ConnKey;
use crate::shard::join::{Join, Presence, Start};
use crate::shard::reason::CloseReason;
use crate::types::moment::Moment;
use crate::wire::control::Heartbeat;
use crate::wire::encoding::Encoding;

/// Socket events taken from the kernel with one call.
const EVENTS_MAX: usize = 256;

/// How long accepting pauses when descriptors run out. The backlog stays readable, so retrying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time between two checks for requests that are still to be answered at the end.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time between two counts of the remaining requests during a drain.
const COUNT_AGAIN: Duration = Duration::from_millis(20);

/// Bytes a client may send on its stream between two checks. Browsers send none.
const INPUT_BYTES_MAX: usize = 16 << 10;

/// What a thread needs to start.
pub struct Worker {
    /// What it shares with the other threads.
    pub engine: Arc<Engine>,
    /// The index of the thread and its shard.
    pub index: usize,
    /// The epoll set of its shard's sockets.
    pub poll: mio::Poll,
    /// Its listeners.
    pub listeners: Vec<PublicListener>,
    /// Connections that may be HTTP at once.
    pub requests_max: usize,
    /// The server's own connection, and the room it is in.
    pub probe: (Socket, Arc<Source>),
    /// Ends the thread at once.
    pub stop: Arc<Notify>,
}

/// A listener, and how to serve it.
pub struct PublicListener {
    /// The listener.
    pub listener: Listener,
    /// Whether its connections begin with a PROXY protocol header.
    pub proxied: bool,
    /// The stage of the server in which it stops accepting.
    pub until: Stage,
}

impl Worker {
    /// Runs until it is stopped.
    ///
    /// # Errors
    ///
    /// If the operating system has no epoll set left.
    pub fn run(self) -> io::Result<()> {
        if let Some(thread) = crate::engine::process::thread_id() {
            // Set once: a shard has one thread.
            let _ = self.engine.shards[self.index].thread.set(thread);
        }
        let _end = End { engine: self.engine.clone(), index: self.index };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.work())
    }

    async fn work(self) -> io::Result<()> {
        #[allow(
            deprecated,
            reason = "its successor is `unsafe`; what it warns of cannot be: `mio::Poll` owns its fd"
        )]
        let ready = AsyncFd::new(self.poll)?;
        let places = Places::new(self.engine.clone(), self.requests_max, true);
        let context = Rc::new(Context {
            engine: self.engine,
            index: self.index,
            changed: Notify::new(),
            places: places.clone(),
        });
        join_probe(&context, self.probe)?;
        let mut accepting = JoinSet::new();
        for PublicListener { listener, proxied, until } in self.listeners {
            let listener = listener.into_async()?;
            accepting.spawn_local(accept(context.clone(), (listener, proxied), until));
        }
        tokio::task::spawn_local(finish(context.clone(), accepting));
        tokio::task::spawn_local(count_requests(context.clone()));
        tokio::task::spawn_local(async move { places.expire().await });
        tokio::task::spawn_local(memory::keep_giving_back());
        tokio::select! {
            never = run_shard(&context, ready) => match never {},
            () = self.stop.notified() => {}
        }
        Ok(())
    }
}

/// Closes the shard's mailbox when its thread ends, so that other threads stop waiting for its answers.
struct End {
    engine: Arc<Engine>,
    index: usize,
}

impl Drop for End {
    fn drop(&mut self) {
        self.engine.hub.mailbox(self.index).close();
    }
}

/// Lets the readiness probe listen in its own room, over a socket like every stream's.
fn join_probe(context: &Context, (socket, room): (Socket, Arc<Source>)) -> io::Result<()> {
    let join = Join {
        socket,
        head: bytes::Bytes::new(),
        encoding: Encoding::default(),
        // The probe gets no heartbeats.
        heartbeat: Heartbeat::default(),
        rooms: vec![room].into(),
        user: None,
        address: None,
        session: None,
        start: Start::Now,
        poll: None,
        presence: Presence::Off,
        sees_names: false,
        probe: true,
    };
    context.shard().join(join, context.engine.clock.now()).map(drop)
}

/// Accepts as long as there are places for requests, until the server is in stage `until`. One connection for each
/// listener is accepted before it has a place, so that others are shed for it only when it is there.
async fn accept(context: Rc<Context>, (listener, proxied): (AsyncListener, bool), until: Stage) {
    let mut stage = context.engine.lifecycle.stage.subscribe();
    let mut ended = pin!(stage.wait_for(|stage| *stage >= until));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut ended => break,
            // Dropping this loses nothing: connections that were not accepted stay in the queue.
            accepted = listener.accept() => accepted,
        };
        take(&context, accepted, proxied).await;
    }
    // A Unix socket whose file is gone gets no more connections, so those that wait in its queue can all be served. Of a
    // port nobody can say that.
    if until == Stage::Ending && matches!(listener, AsyncListener::Unix(_)) {
        while let Ok(accepted) = tokio::time::timeout(LOOK_AGAIN, listener.accept()).await {
            take(&context, accepted, proxied).await;
        }
    }
}

/// Serves a connection that was accepted, once there is a place for it.
async fn take(context: &Rc<Context>, accepted: io::Result<(Stream, Option<IpAddr>)>, proxied: bool) {
    let stats = &context.engine.stats;
    match accepted {
        Ok((stream, peer)) => {
            stats.accepted.add();
            let place = context.places.take().await;
            let context = context.clone();
            tokio::task::spawn_local(async move {
                serve(context, Accepted { stream, peer, proxied }).await;
                drop(place);
            });
        }
        Err(err) => match classify(&err) {
            Accept::Retry => {}
            Accept::Pause => {
                stats.accept_paused.add();
                context.places.shed_one(Patience::None);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        },
    }
}

/// At the end: waits until the requests that have begun are answered, closes connections that only wait for another
/// request, and reports when none is left.
async fn finish(context: Rc<Context>, mut accepting: JoinSet<()>) {
    let mut stage = context.engine.lifecycle.stage.subscribe();
    if stage.wait_for(|stage| *stage >= Stage::Ending).await.is_err() {
        return;
    }
    // Then every accepted connection has its place.
    while accepting.join_next().await.is_some() {}
    while !context.places.are_free() {
        // First, so that bytes that have come are read meanwhile.
        tokio::time::sleep(LOOK_AGAIN).await;
        context.places.shed_idle();
    }
    context.engine.shards[context.index].requests_left.store(0, Ordering::Relaxed);
    context.engine.lifecycle.finished.fetch_add(1, Ordering::Release);
}

/// Counts the remaining requests during a drain.
async fn count_requests(context: Rc<Context>) {
    let mut stage = context.engine.lifecycle.stage.subscribe();
    if stage.wait_for(|stage| *stage >= Stage::Draining).await.is_err() {
        return;
    }
    loop {
        let left = &context.engine.shards[context.index].requests_left;
        left.store(context.places.unanswered(), Ordering::Relaxed);
        tokio::time::sleep(COUNT_AGAIN).await;
    }
}

/// Steps the shard whenever something is due: by time, command or socket.
async fn run_shard(context: &Context, mut ready: AsyncFd<mio::Poll>) -> Infallible {
    let clock = context.engine.clock;
    let mut events = mio::Events::with_capacity(EVENTS_MAX);
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    let mut drained = false;
    loop {
        let step = {
            let mut shard = context.shard();
            let step = shard.step(clock.now());
            let now = clock.now();
            shard.settle(now);
            context.engine.shards[context.index].stats.stepped_at.set(now.0);
            match step {
                Step::Sleep(until) => shard.set_sleeps_until(until),
                Step::Drained => shard.set_sleeps_until(Moment(u64::MAX)),
                Step::Again => {}
            }
            step
        };
        match step {
            // Requests are still answered until the server ends.
            Step::Drained => {
                if !std::mem::replace(&mut drained, true) {
                    context.engine.lifecycle.drained.fetch_add(1, Ordering::Release);
                }
                sleep.as_mut().reset(Instant::now() + EXPIRY_INTERVAL);
                wait(context, &mut ready, &mut events, sleep.as_mut()).await;
            }
            // Accepts and publishes get a turn during a long flush.
            Step::Again => {
                tokio::task::yield_now().await;
                take_events_now(context, &mut ready, &mut events).await;
            }
            Step::Sleep(until) => {
                sleep.as_mut().reset(Instant::from_std(clock.instant(until)));
                wait(context, &mut ready, &mut events, sleep.as_mut()).await;
            }
        }
    }
}

/// Waits for a command, a socket, a change from a request, or the time.
async fn wait(
    context: &Context,
    ready: &mut AsyncFd<mio::Poll>,
    events: &mut mio::Events,
    mut sleep: Pin<&mut Sleep>,
) {
    let mut changed = pin!(context.changed.notified());
    poll_fn(|cx| {
        let mail = context.engine.hub.mailbox(context.index).poll(cx.waker()).is_ready();
        let events = poll_events(context, ready, events, cx).is_ready();
        let changed = changed.as_mut().poll(cx).is_ready();
        // A publisher's thread may have work for this shard, or work that is due before the planned time.
        let nudged = context.shard().sleeps_until() == Moment(0);
        if mail || events || changed || nudged { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }
    })
    .await;
}

/// Handles the sockets' events that are there, without waiting.
async fn take_events_now(context: &Context, ready: &mut AsyncFd<mio::Poll>, events: &mut mio::Events) {
    poll_fn(|cx| {
        let _ = poll_events(context, ready, events, cx);
        Poll::Ready(())
    })
    .await;
}

/// Ready when events of sockets were handled.
fn poll_events(
    context: &Context,
    ready: &mut AsyncFd<mio::Poll>,
    events: &mut mio::Events,
    cx: &mut TaskContext<'_>,
) -> Poll<()> {
    let Ok(mut guard) = ready!(ready.poll_read_ready_mut(cx)) else {
        return Poll::Pending;
    };
    // `epoll_wait` on a valid set fails only for reasons that end the process anyway (EBADF, EFAULT).
    let _ = guard.get_inner_mut().poll(events, Some(Duration::ZERO));
    let count = events.iter().count();
    for event in events.iter() {
        take_event(context, event);
    }
    if count < EVENTS_MAX {
        guard.clear_ready();
    } else {
        // More events wait: poll again at once.
        cx.waker().wake_by_ref();
    }
    Poll::Ready(())
}

fn take_event(context: &Context, event: &mio::event::Event) {
    let key = ConnKey::from_u64(event.token().0 as u64);
    let mut shard = context.shard();
    // Under the lock: the shard's time does not go back.
    let now = context.engine.clock.now();
    if event.is_error() {
        let failure = shard.socket_mut(key).and_then(|socket| socket.take_error().ok().flatten());
        return shard.on_failed(key, failure.map_or(io::ErrorKind::Other, |err| err.kind()), now);
    }
    if event.is_read_closed() {
        return shard.on_closed(key, CloseReason::Client, now);
    }
    if event.is_readable()
        && let Some(reason) = shard.socket_mut(key).and_then(|socket| discard_input(socket))
    {
        return shard.on_closed(key, reason, now);
    }
    if event.is_writable() {
        shard.on_writable(key, now);
    }
}

/// Reads and discards what a client sends on its stream. Returns the reason to close the connection, if there is one.
fn discard_input(socket: &Socket) -> Option<CloseReason> {
    let mut input = [MaybeUninit::uninit(); 1024];
    let mut total = 0;
    loop {
        match socket.recv(&mut input) {
            Ok(0) => return Some(CloseReason::Client),
            Ok(count) => total += count,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return None,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Some(CloseReason::Error),
        }
        if total > INPUT_BYTES_MAX {
            return Some(CloseReason::Flood);
        }
    }
}
