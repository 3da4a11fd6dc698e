//! Subscribers in another process, for more connections than one may open files.
//!
//! The other process is this program again. It reads its assignment and then commands, and writes its counters, its tallies
//! and its end: JSON, one line each, over standard input and output. It ends with its input, so none outlives the main
//! process.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command as Spawn, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::command::Command;
use super::counters::{Counters, Counts};
use super::done::Done;
use super::tally::Tally;
use super::threads::Threads;
use crate::client::clock::Clock;
use crate::plan::args::SUBCOMMAND;

/// The first line of all.
#[derive(Debug, Deserialize, Serialize)]
struct Task {
    assignment: Assignment,
    /// Which part of the connections.
    nth: usize,
    origin_ns: u64,
}

/// What the other process tells.
#[derive(Debug, Deserialize, Serialize)]
enum Told {
    Counts(Counts),
    Tally(Box<Tally>),
    Done(Box<Done>),
    Failed(String),
}

/// Another process, as seen from the main one.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: Mutex<ChildStdin>,
    counters: Arc<Counters>,
    answers: Receiver<Told>,
    is_gone: Arc<AtomicBool>,
}

impl Process {
    /// Starts a process for part `nth` of the assignment's connections.
    pub(super) fn start(assignment: &Assignment, nth: usize, clock: Clock) -> io::Result<Self> {
        let mut child = Spawn::new(std::env::current_exe()?)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        tell(&mut input, &Task { assignment: assignment.clone(), nth, origin_ns: clock.origin_ns() })?;
        let (sender, answers) = channel();
        let counters = Arc::new(Counters::default());
        let is_gone = Arc::new(AtomicBool::new(false));
        let (mirror, gone) = (Arc::clone(&counters), Arc::clone(&is_gone));
        std::thread::Builder::new().name(format!("process-{nth}")).spawn(move || {
            listen(BufReader::new(output), &mirror, &sender);
            gone.store(true, Ordering::Release);
        })?;
        Ok(Self { child, input: Mutex::new(input), counters, answers, is_gone })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counters.load()
    }

    pub(super) fn command(&self, command: Command) -> io::Result<()> {
        let mut input = self.input.lock().map_err(|_| io::Error::other("a thread panicked"))?;
        tell(&mut *input, &command)
    }

    pub(super) fn taken(&self) -> io::Result<Tally> {
        match self.answer()? {
            Told::Tally(tally) => Ok(*tally),
            told => Err(unexpected(told)),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Waits for what the process ended with; it has been told to stop.
    pub(super) fn stop(mut self) -> io::Result<Done> {
        let done = match self.answer()? {
            Told::Done(done) => *done,
            told => return Err(unexpected(told)),
        };
        self.child.wait()?;
        Ok(done)
    }

    fn answer(&self) -> io::Result<Told> {
        self.answers.recv_timeout(ANSWER_MAX).map_err(|err| {
            io::Error::other(match err {
                RecvTimeoutError::Timeout => "a process of subscribers does not answer",
                RecvTimeoutError::Disconnected => "a process of subscribers is gone",
            })
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After a proper stop it has ended and been waited for, and both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unexpected(told: Told) -> io::Error {
    match told {
        Told::Failed(why) => io::Error::other(format!("a process of subscribers failed: {why}")),
        _ => io::Error::other("a process of subscribers answered something else"),
    }
}

/// Sorts what the other process says: counters are stored, answers passed on.
fn listen(lines: impl BufRead, counters: &Counters, answers: &Sender<Told>) {
    for line in lines.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Told::Counts(counts)) => counters.store(&counts),
            Ok(told) => {
                // The main thread may have given up waiting.
                let _ = answers.send(told);
            }
            Err(err) => {
                let _ = answers.send(Told::Failed(err.to_string()));
                return;
            }
        }
    }
}

fn tell(output: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// The other process: opens its part and does as it is told, until it is told to stop or its input ends.
///
/// # Errors
///
/// What it is told makes no sense, or the main process is gone.
pub fn serve() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let mut output = io::stdout();
    let mut first = String::new();
    input.read_line(&mut first)?;
    let Task { assignment, nth, origin_ns } = serde_json::from_str(&first)?;
    let commands = forward(input)?;
    match handle(&assignment, nth, Clock::of(origin_ns), &commands, &mut output) {
        Ok(()) => Ok(()),
        Err(err) => tell(&mut output, &Told::Failed(err.to_string())),
    }
}

fn handle(
    assignment: &Assignment,
    nth: usize,
    clock: Clock,
    commands: &Receiver<Command>,
    output: &mut impl Write,
) -> io::Result<()> {
    let threads = Threads::start(assignment, nth, clock)?;
    loop {
        match commands.recv_timeout(COUNTS_EVERY) {
            Ok(Command::Take) => {
                threads.command(Command::Take)?;
                tell(output, &Told::Tally(Box::new(threads.taken()?)))?;
            }
            Ok(Command::Stop) => {
                threads.command(Command::Stop)?;
                let done = threads.stop()?;
                return tell(output, &Told::Done(Box::new(done)));
            }
            Ok(command) => threads.command(command)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        tell(output, &Told::Counts(threads.counts()))?;
    }
}

/// A thread that reads commands, so that waiting for them can time out.
fn forward(input: impl BufRead + Send + 'static) -> io::Result<Receiver<Command>> {
    let (sender, commands) = channel();
    std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
        for line in input.lines().map_while(Result::ok) {
            let Ok(command) = serde_json::from_str(&line) else {
                return;
            };
            if sender.send(command).is_err() {
                return;
            }
        }
    })?;
    Ok(commands)
}

const COUNTS_EVERY: Duration = Duration::from_millis(10);
const ANSWER_MAX: Duration = Duration::from_mins(2);
