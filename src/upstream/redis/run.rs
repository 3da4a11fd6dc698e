//! Starts the thread of a link, and ends it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::upstream::redis::handle::{Follower, Handle, Setup};
use crate::upstream::redis::work::Work;

/// The running thread. It ends when this is dropped.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread, which connects, and goes on trying until the end.
///
/// # Errors
///
/// If the operating system refuses a thread or a runtime.
pub fn start<F: Follower + 'static>(setup: Setup, follower: F) -> io::Result<(Handle<F::Outcome>, Running)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (requests, received) = mpsc::channel(setup.unanswered_max);
    let (confirms, asked) = mpsc::channel(setup.unanswered_max);
    let bytes_max = setup.unanswered_bytes_max;
    let bytes = Arc::new(Semaphore::new(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
    let stats = setup.stats.clone();
    let (stop, stopped) = oneshot::channel();
    let run = move || {
        runtime.block_on(Work::new(setup, follower).run(received, asked, stopped));
        // A look-up of a name cannot be ended, and nobody waits for it.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("redis".into()).spawn(run)?;
    let running = Running { stop: Some(stop), thread: Some(thread) };
    Ok((Handle::new(requests, confirms, bytes, bytes_max, stats), running))
}

impl Running {
    /// Ends the thread. What is not answered yet is [`AppendError::Stopped`](super::AppendError::Stopped).
    ///
    /// # Errors
    ///
    /// If the thread panicked.
    pub fn end(mut self) -> io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // A failed send means that the thread has ended already; joining shows how.
            let _ = stop.send(());
        }
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        joined.map_err(|_| io::Error::other("the link to Redis panicked"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.join();
    }
}
