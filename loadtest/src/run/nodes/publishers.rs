//! Those who publish, each to a node of its own, and to the next one while that does not answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LOOK_AGAIN, PATIENCE, ROOM};
use crate::client::caller::Caller;
use crate::client::order::verdict::Answered;
use crate::target::server::Target;

/// The publishers and their threads.
pub(super) struct Publishers {
    is_stopped: Arc<AtomicBool>,
    /// Publishes that each node has answered.
    pub(super) counts: Arc<Vec<AtomicU64>>,
    threads: Vec<JoinHandle<io::Result<Vec<Answered>>>>,
}

/// What each of them needs.
#[derive(Clone)]
struct Publisher {
    nodes: Vec<Arc<Target>>,
    counts: Arc<Vec<AtomicU64>>,
    is_stopped: Arc<AtomicBool>,
    /// Every other publish has one event, the others this many.
    batch: u64,
    pause: Duration,
}

impl Publishers {
    /// `each` for every node, together `rate` events a second, single ones and batches of `batch` in turns.
    pub(super) fn start(nodes: &[Arc<Target>], each: usize, rate: u32, batch: u32) -> io::Result<Self> {
        let (is_stopped, all) = (Arc::<AtomicBool>::default(), nodes.len() * each);
        let counts: Arc<Vec<AtomicU64>> = Arc::new(nodes.iter().map(|_| AtomicU64::new(0)).collect());
        let pause =
            f64::from(batch + 1) / 2.0 * f64::from(u32::try_from(all).unwrap_or(u32::MAX)) / f64::from(rate);
        let publisher = Publisher {
            nodes: nodes.to_vec(),
            counts: Arc::clone(&counts),
            is_stopped: Arc::clone(&is_stopped),
            batch: batch.into(),
            pause: Duration::from_secs_f64(pause),
        };
        let start = |nth: usize| {
            let publisher = publisher.clone();
            let thread = std::thread::Builder::new().name(format!("publisher {nth}"));
            thread.spawn(move || publisher.run(nth))
        };
        let threads = (0..all).map(start).collect::<io::Result<_>>()?;
        Ok(Self { is_stopped, counts, threads })
    }

    /// Ends them after what is under way, and returns what was answered.
    pub(super) fn stop(self) -> io::Result<Vec<Answered>> {
        self.is_stopped.store(true, Ordering::Release);
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_| io::Error::other("a publisher panicked"))??);
        }
        Ok(all)
    }

    /// Whether one of them has given up.
    pub(super) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Publisher {
    /// Publishes until it is told to stop. Every publish is sent until it is answered.
    fn run(&self, nth: usize) -> io::Result<Vec<Answered>> {
        let (mut answered, mut caller) = (Vec::new(), None);
        let mut number = (nth as u64) << 32;
        let mut due = Instant::now();
        for turn in 0_u64.. {
            if self.is_stopped.load(Ordering::Acquire) {
                break;
            }
            let count = if turn.is_multiple_of(2) { 1 } else { self.batch };
            answered.push(self.publish(nth % self.nodes.len(), &mut caller, number, count)?);
            number += count;
            due = (due + self.pause).max(Instant::now().checked_sub(self.pause).unwrap_or(due));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(answered)
    }

    fn publish(
        &self,
        home: usize,
        caller: &mut Option<Caller>,
        number: u64,
        count: u64,
    ) -> io::Result<Answered> {
        let (body, key) = (body(number, count), format!("events-{number}"));
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            let node = (home + attempt) % self.nodes.len();
            let open =
                caller.take().filter(|_| attempt == 0).map_or_else(|| Caller::new(&self.nodes[node]), Ok);
            match open.and_then(|mut open| open.publish_once(&key, &body).map(|(answer, _)| (answer, open))) {
                Ok((answer, open)) if answer.status == 200 => {
                    // Its own node is asked first again.
                    *caller = Some(open).filter(|_| node == home);
                    self.counts[node].fetch_add(1, Ordering::AcqRel);
                    return placed(answer.body.id.as_deref(), number, count);
                }
                Ok((answer, _)) if answer.status != 503 => {
                    let code = answer.body.code.unwrap_or_default();
                    return Err(io::Error::other(format!("a publish is answered {} {code}", answer.status)));
                }
                // It was killed, or cannot reach the order.
                _ => std::thread::sleep(LOOK_AGAIN * 5),
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(io::Error::other(format!("{key} is never answered")))
    }
}

/// `count` events in one request.
fn body(number: u64, count: u64) -> String {
    let event = |number: u64| format!(r##"{{"room":"{ROOM}","data":"#{number}#"}}"##);
    if count == 1 {
        return event(number);
    }
    let events: Vec<String> = (number..number + count).map(event).collect();
    format!("[{}]", events.join(","))
}

/// Where the answer with `id` says that they are.
fn placed(id: Option<&str>, number: u64, count: u64) -> io::Result<Answered> {
    let id = id.and_then(|id| id.rsplit_once('-'));
    let placed = id.and_then(|(epoch, last)| Some((epoch.to_owned(), last.parse().ok()?)));
    let (epoch, last) = placed.ok_or_else(|| io::Error::other("an answer without an id"))?;
    Ok(Answered { number, count, epoch, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_an_object_and_more_are_an_array() {
        assert_eq!(body(7, 1), r##"{"room":"nodes","data":"#7#"}"##);
        assert_eq!(body(7, 2), r##"[{"room":"nodes","data":"#7#"},{"room":"nodes","data":"#8#"}]"##);
        let answered = Answered { number: 7, count: 2, epoch: "a".into(), last: 9 };
        assert_eq!(placed(Some("a-9"), 7, 2).expect("an id"), answered);
        assert!(placed(None, 7, 2).is_err() && placed(Some("a"), 7, 2).is_err());
    }
}
