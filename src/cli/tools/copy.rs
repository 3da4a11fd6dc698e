//! `tidegate order --copy`: writes an order on disk to a Redis that has none, so that nodes over Redis go on where the server
//! with the disk has ended. The folder is locked meanwhile, and stays as it is.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Error};

use crate::cli::tools::{NO, Output, misuse};
use crate::config::Config;
use crate::config::kinds::order::OrderPlace;
use crate::order::disk::scan::Scan;
use crate::order::entry::DecodeError;
use crate::order::redis::copy::{Copy as Copying, Survey};
use crate::order::redis::scripts::Keep;
use crate::store::folder::Segments;
use crate::types::clock::since_1970;
use crate::types::lineage::Lineage;
use crate::types::position::Offset;
use crate::upstream::redis::{Address, CopyError, Target};

pub(super) const COPY: &str = "copy";

/// The copy to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copy {
    from: PathBuf,
    to: OrderPlace,
}

pub(super) fn arg() -> Arg {
    Arg::new(COPY).long(COPY).num_args(2).value_names(["disk:PATH", "URL"]).help(
        "Write the newest part of an order on disk to a Redis that has none; the server has to be ended",
    )
}

/// What was copied.
struct Copied {
    start: Offset,
    newest: Offset,
    entries: usize,
    keys: usize,
    changes: usize,
    lineage: Lineage,
}

impl Copy {
    /// `None` if no copy is asked for.
    pub(super) fn read(matches: &ArgMatches) -> Result<Option<Self>, Error> {
        let Some(places) = matches.get_many::<String>(COPY) else { return Ok(None) };
        let places: Vec<_> = places.map(|text| OrderPlace::parse(text)).collect();
        match &places[..] {
            [Some(OrderPlace::Disk(from)), Some(to @ OrderPlace::Redis(_))] => {
                Ok(Some(Self { from: from.clone(), to: to.clone() }))
            }
            _ => Err(misuse("--copy wants disk:PATH with an absolute path, and the URL of a Redis")),
        }
    }

    pub(super) fn run(&self, config: &Config) -> Output {
        match self.copy(config) {
            Ok(copied) => Output { out: copied.told(), ..Output::default() },
            Err(err) => Output { err, code: NO, ..Output::default() },
        }
    }

    fn copy(&self, config: &Config) -> Result<Copied, String> {
        let from = |why: String| format!("{}: {why}", self.from.display());
        let folder = lock(&self.from).map_err(from)?;
        let scan = Scan::of(&folder).map_err(|err| from(err.to_string()))?;
        let lineage = scan.lineage.as_ref().ok_or_else(|| from("there is no order in it".into()))?;
        let survey = survey(&scan, &folder).map_err(from)?;
        let written = self.write(config, &scan, &folder, lineage, survey);
        written.map_err(|why| format!("{:?}: {why}", self.to))
    }

    fn write(
        &self,
        config: &Config,
        scan: &Scan,
        folder: &Segments,
        lineage: &Lineage,
        mut survey: Survey,
    ) -> Result<Copied, String> {
        let (now, keep) = (since_1970(), keep(config));
        let start = survey.start(scan.newest, keep.bytes).max(scan.floor);
        let changes = survey.changes_before(start, now.as_secs());
        let keys = survey.keys(lineage, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(NAME_CHARS).collect();
        let name = format!("copy{}", name.to_lowercase());
        let failed = |err: CopyError| err.to_string();
        let mut target = Target::begin(&self.address(config)?, keep, name.clone()).map_err(failed)?;
        target.claim(&keys).map_err(failed)?;
        let mut copying = Copying::new(&survey, lineage.clone(), start, name);
        let (entries, time_ms) = write(scan, folder, &mut copying, &mut target)?;
        let (newest, _) = copying.end();
        let ended = target.end(lineage, copying.end(), scan.given, time_ms, &changes);
        let (lineage, keys, changes) = (ended.map_err(failed)?, keys.len(), changes.len());
        Ok(Copied { start, newest, entries, keys, changes, lineage })
    }

    fn address(&self, config: &Config) -> Result<Address, String> {
        let OrderPlace::Redis(url) = &self.to else { unreachable!("read as one") };
        let address = Address::parse(url.as_str()).map_err(|err| err.to_string())?;
        let address = address.with_password_file(config.order_password_file.clone());
        Ok(address.with_ca_file(config.order_ca_file.clone()))
    }
}

/// Keeps servers out of the folder at `path` for as long as what is returned lives.
fn lock(path: &Path) -> Result<Segments, String> {
    if !path.is_dir() {
        return Err("there is no such folder".into());
    }
    Segments::open(path).map_err(|err| match err.kind() {
        std::io::ErrorKind::ResourceBusy => "a server uses it: end it first".into(),
        _ => format!("it cannot be locked: {err}"),
    })
}

fn keep(config: &Config) -> Keep {
    let age_ms = u64::try_from(config.order_age.as_millis()).unwrap_or(u64::MAX);
    Keep { prefix: config.order_prefix.clone(), bytes: config.order_bytes as u64, age_ms }
}

/// Reads every batch, before anything is written.
fn survey(scan: &Scan, folder: &Segments) -> Result<Survey, String> {
    let (mut survey, mut wrong) = (Survey::default(), None);
    let unix_s = since_1970().as_secs();
    let visited = scan.visit(folder, |batch| {
        if let Err(err) = survey.add(batch, scan.floor, unix_s) {
            wrong.get_or_insert(unreadable(batch.first, err));
        }
    });
    visited.map_err(|err| format!("it cannot be read: {err}"))?;
    wrong.map_or(Ok(survey), Err)
}

fn unreadable(first: Offset, err: DecodeError) -> String {
    format!("the batch at position {first} is {err}")
}

/// Writes every batch that `copying` takes. Returns the number of entries, and when the last was written first.
fn write(
    scan: &Scan,
    folder: &Segments,
    copying: &mut Copying<'_>,
    target: &mut Target,
) -> Result<(usize, u64), String> {
    let (mut result, mut entries, mut time_ms) = (Ok(()), 0, 0);
    let visited = scan.visit(folder, |batch| {
        if result.is_ok() {
            time_ms = time_ms.max(batch.unix_us / 1000);
            result = copying.batch(batch).map_err(|err| unreadable(batch.first, err)).and_then(|rows| {
                entries += rows.len();
                target.add(rows, time_ms).map_err(|err| err.to_string())
            });
        }
    });
    visited.map_err(|err| format!("the order cannot be read: {err}"))?;
    result?;
    let rows = copying.finish(scan.newest, time_ms);
    entries += rows.len();
    target.add(rows, time_ms).map_err(|err| err.to_string())?;
    Ok((entries, time_ms))
}

impl Copied {
    fn told(&self) -> String {
        let Self { start, newest, entries, keys, changes, lineage } = self;
        let mut out = format!("copied: positions above {start} up to {newest}, in {entries} entries\n");
        let epoch = lineage.epoch();
        write!(out, "carried: {keys} idempotency keys, {changes} changes of access\nterm {epoch}: begins behind them\n")
            .expect("a String takes any text");
        out
    }
}

/// Characters of the name of a copy.
const NAME_CHARS: usize = 12;
