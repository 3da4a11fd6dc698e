//! A task with steps: finds primes, looks for twins among them, and writes a file. Your own task takes this place.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Work, stopped};
use crate::answer::Refusal;

/// The page has a text for each.
pub(super) const STEPS: [&str; 3] = ["primes", "twins", "write"];
const BELOW: i64 = 1_000_000;
const SLICE: i64 = 20_000;
/// Two steps look at each number, and the last one writes.
pub(super) const TOTAL: i64 = 2 * BELOW + SLICE;
/// There are 78,498 primes below a million, and 8,169 pairs of twins.
pub(super) const BYTES_MAX: i64 = 1 << 20;
/// After each slice, so that the task does not take a whole core from everybody else.
const REST: Duration = Duration::from_millis(80);

pub(super) async fn write(work: &mut Work) -> Result<(), Refusal> {
    let mut primes = Vec::new();
    step(work, 0).await;
    for from in (0..BELOW).step_by(usize::try_from(SLICE).expect("small")) {
        primes.extend((from..from + SLICE).filter(|number| is_prime(*number)));
        rest(work).await?;
    }

    let mut text = format!("{} primes below {BELOW}, and the twins among them:\n", primes.len());
    step(work, 1).await;
    for from in (0..BELOW).step_by(usize::try_from(SLICE).expect("small")) {
        let slice = primes.partition_point(|prime| *prime < from)..;
        let pairs = primes[slice].windows(2).take_while(|pair| pair[0] < from + SLICE);
        for pair in pairs.filter(|pair| pair[1] - pair[0] == 2) {
            let _ = writeln!(text, "{} {}", pair[0], pair[1]);
        }
        rest(work).await?;
    }

    step(work, 2).await;
    tokio::fs::write(&work.path, text).await?;
    work.advance(SLICE).await;
    Ok(())
}

async fn step(work: &mut Work, index: usize) {
    work.job.step = Some((STEPS[index], index + 1));
    work.tell().await;
}

async fn rest(work: &mut Work) -> Result<(), Refusal> {
    work.advance(SLICE).await;
    tokio::select! {
        () = tokio::time::sleep(REST) => Ok(()),
        () = work.place.stopped() => Err(stopped()),
    }
}

/// A slice of these takes some milliseconds. What takes longer belongs on a thread of its own (`spawn_blocking`), because
/// meanwhile this one serves nobody.
fn is_prime(number: i64) -> bool {
    number == 2
        || number > 2
            && number % 2 == 1
            && (3..).step_by(2).take_while(|by| by * by <= number).all(|by| number % by != 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn primes_are_primes() {
        let primes: Vec<i64> = (0..30).filter(|number| super::is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    }
}
