//! The subscribers of this process: a few threads, each with its own connections.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use super::assignment::Assignment;
use super::command::Command;
use super::counters::{Counters, Counts};
use super::done::Done;
use super::tally::Tally;
use super::worker::Worker;
use crate::client::clock::Clock;

/// The threads, and how to reach them.
#[derive(Debug)]
pub(super) struct Threads {
    counters: Arc<Counters>,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    commands: Sender<Command>,
    waker: Waker,
    tallies: Receiver<Tally>,
    handle: JoinHandle<io::Result<Done>>,
}

impl Threads {
    /// Starts opening part `nth` of the assignment's connections.
    pub(super) fn start(assignment: &Assignment, nth: usize, clock: Clock) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let assignment = Arc::new(assignment.clone());
        let threads = (0..assignment.settings.threads)
            .map(|thread| {
                let (commands, commanded) = channel();
                let (taken, tallies) = channel();
                let worker = Worker::new(&assignment, (nth, thread), clock, &counters, commanded, taken)?;
                let waker = worker.waker()?;
                let name = format!("subscribers-{thread}");
                let handle = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
                Ok(Thread { commands, waker, tallies, handle })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { counters, threads })
    }

    pub(super) fn counts(&self) -> Counts {
        self.counters.load()
    }

    pub(super) fn command(&self, command: Command) -> io::Result<()> {
        for thread in &self.threads {
            // A thread that is gone has an error to tell when it is joined.
            let _ = thread.commands.send(command);
            thread.waker.wake()?;
        }
        Ok(())
    }

    pub(super) fn taken(&self) -> io::Result<Tally> {
        let mut all = Tally::default();
        for thread in &self.threads {
            let tally = thread.tallies.recv_timeout(ANSWER_MAX);
            all.merge(&tally.map_err(|_| io::Error::other("a subscriber thread is gone"))?);
        }
        Ok(all)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.threads.iter().any(|thread| thread.handle.is_finished())
    }

    /// Waits for what the threads ended with; they have been told to stop.
    pub(super) fn stop(self) -> io::Result<Done> {
        let mut all = Done::default();
        for thread in self.threads {
            let done =
                thread.handle.join().map_err(|_| io::Error::other("a subscriber thread panicked"))??;
            all.tally.merge(&done.tally);
            all.subscribers.extend(done.subscribers);
        }
        Ok(all)
    }
}

/// A thread looks for commands after every round of reads; this is far longer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
