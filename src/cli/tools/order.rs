//! `tidegate order`: says what is in the folder of an order on disk, and reads all of it. Nothing is locked or changed, so it
//! also works beside a server; then the end may be read half written.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgGroup, ArgMatches, Command, value_parser};

use crate::cli::tools::time::when;
use crate::cli::tools::{NO, Output, copy};
use crate::order::disk::record::Batch;
use crate::order::disk::scan::{Damage, Scan, ScanError, Scanned};
use crate::order::entry::{self, Entry};
use crate::store::folder::Reading;
use crate::types::lineage::{Lineage, Term};
use crate::types::position::Offset;

pub(super) const NAME: &str = "order";
const INSPECT: &str = "inspect";
const VERIFY: &str = "verify";

/// The order to look into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    path: PathBuf,
    /// Whether each entry is read, too.
    is_verified: bool,
}

pub(super) fn command() -> Command {
    let path = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("PATH").value_parser(value_parser!(PathBuf)).help(help)
    };
    Command::new(NAME)
        .about("Look into an order on disk, or copy it to Redis")
        .after_help(
            "PATH is the folder of the setting `order`, without `disk:`. Nothing in it is changed:\n\
             tidegate order --inspect /var/lib/tidegate/order\n\
             With --copy, also takes the flags of the server: order_prefix, order_bytes and the like count.",
        )
        .next_line_help(true)
        .args([
            path(INSPECT, "Say what is there: segments, terms, and what is damaged"),
            path(VERIFY, "The same, and read every entry; exit with 1 if anything cannot be read"),
            copy::arg(),
        ])
        .group(ArgGroup::new("what").args([INSPECT, VERIFY, copy::COPY]).required(true))
}

/// What the entries of an order are.
#[derive(Default)]
struct Tally {
    batches: u64,
    events: u64,
    changes: u64,
    answers: u64,
    ticks: u64,
    /// What cannot be read, although its checksum is right.
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, batch: &Batch<'_>) {
        let before = self.positions();
        let read = entry::read(batch.body, |entry| match entry {
            Entry::Event(..) => self.events += 1,
            Entry::Change(..) => self.changes += 1,
            Entry::Answer(..) => self.answers += 1,
            Entry::Publish(..) => {}
            // What nodes say to each other is in Redis only; a copy of that order may have it.
            Entry::Report(..) | Entry::Tick => self.ticks += 1,
        });
        self.batches += 1;
        let (first, taken) = (batch.first, self.positions() - before);
        match read {
            Err(err) => self.wrong.push(format!("the batch at position {first} is {err}")),
            Ok(()) if taken != u64::from(batch.count) => {
                self.wrong.push(format!(
                    "the batch at position {first} has {taken} entries in place of {}",
                    batch.count
                ));
            }
            Ok(()) => {}
        }
    }

    /// The positions that the entries take.
    fn positions(&self) -> u64 {
        self.events + self.changes + self.ticks
    }
}

impl Order {
    pub(super) fn read(matches: &ArgMatches) -> Self {
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        let verified = path(VERIFY);
        let is_verified = verified.is_some();
        Self { path: verified.or_else(|| path(INSPECT)).unwrap_or_default(), is_verified }
    }

    pub(super) fn run(&self, now: u64) -> Output {
        let folder = Reading(self.path.clone());
        let scan = match Scan::of(&folder) {
            Ok(scan) if scan.lineage.is_none() && scan.damage.is_empty() => {
                return self.refused("there is no order in it");
            }
            Ok(scan) => scan,
            Err(ScanError::Io(err)) => return self.refused(&format!("it cannot be read: {err}")),
            Err(err) => return self.refused(&err.to_string()),
        };
        let out = summary(&scan, now);
        if self.is_verified { self.verify(&scan, &folder, out) } else { Output { out, ..Output::default() } }
    }

    /// Reads every entry, and adds what was found to `out`.
    fn verify(&self, scan: &Scan, folder: &Reading, mut out: String) -> Output {
        let mut tally = Tally::default();
        if let Err(err) = scan.visit(folder, |batch| tally.add(batch)) {
            return self.refused(&format!("it cannot be read: {err}"));
        }
        let Tally { batches, events, changes, answers, ticks, wrong } = &tally;
        writeln!(
            out,
            "read: {batches} batches with {events} events, {changes} changes of access, {answers} answers, {ticks} probes"
        )
        .expect("a String takes any text");
        let is_whole = scan.damage.is_empty() && wrong.is_empty();
        out += if is_whole { "All of it can be read.\n" } else { "Not all of it can be read.\n" };
        Output { out, err: wrong.join("\n"), code: if is_whole { 0 } else { NO } }
    }

    fn refused(&self, why: &str) -> Output {
        Output { err: format!("{}: {why}", self.path.display()), code: NO, ..Output::default() }
    }
}

/// What is in a folder, a line for each thing.
fn summary(scan: &Scan, now: u64) -> String {
    let end = if scan.is_clean {
        "clean, so the next start goes on in the newest term"
    } else {
        "not clean, so the next start begins a term, unless a server runs"
    };
    let mut lines =
        vec![format!("positions: above {} up to {}", scan.floor, scan.newest), format!("end: {end}")];
    lines.extend(scan.lineage.iter().flat_map(Lineage::terms).map(of_term));
    lines.extend(scan.segments.iter().map(|segment| of_segment(segment, now)));
    lines.extend(scan.unfinished.iter().map(|segment| format!("segment {segment}: empty")));
    lines.extend(scan.damage.iter().map(|damage| of_damage(*damage, scan.floor)));
    lines.join("\n") + "\n"
}

fn of_term(term: &Term) -> String {
    let end = if term.last == Offset::MAX { "on".to_owned() } else { format!("up to {}", term.last) };
    format!("term {}: from {} {end}", term.epoch.as_str(), term.first)
}

fn of_segment(segment: &Scanned, now: u64) -> String {
    let Scanned { number, after, last, used, bytes, batches, newest_us } = segment;
    let mut text = format!("segment {number}: {batches} batches, {used} of {bytes} bytes");
    if *batches > 0 {
        let newest = when(newest_us / 1_000_000, now);
        write!(text, ", above {after} up to {last}, the newest at {newest}")
            .expect("a String takes any text");
    }
    text
}

fn of_damage(damage: Damage, floor: Offset) -> String {
    let Damage { segment, at, is_inside } = damage;
    let told = if is_inside {
        format!("inside the order; whoever comes from {floor} or below is told `evicted`")
    } else {
        "at the end; whoever saw more is told `restart`".to_owned()
    };
    format!("damage: segment {segment}, byte {at}: {told}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: u32, body: &[u8]) -> Tally {
        let mut tally = Tally::default();
        tally.add(&Batch { first: 7, count, unix_us: 0, body });
        tally
    }

    #[test]
    fn a_batch_has_as_many_entries_as_it_says() {
        let mut body = vec![entry::VERSION];
        entry::put_tick(&mut body);
        entry::put_tick(&mut body);
        assert_eq!((batch(2, &body).wrong, batch(2, &body).ticks), (Vec::new(), 2));
        assert_eq!(batch(3, &body).wrong, ["the batch at position 7 has 2 entries in place of 3"]);
        assert_eq!(batch(1, &[entry::VERSION, 200]).wrong, ["the batch at position 7 is damaged"]);
    }

    #[test]
    fn damage_says_what_is_told() {
        let at = |is_inside| of_damage(Damage { segment: 2, at: 90, is_inside }, 5);
        assert!(at(true).contains("from 5 or below is told `evicted`"), "{}", at(true));
        assert!(at(false).contains("at the end"), "{}", at(false));
    }
}
