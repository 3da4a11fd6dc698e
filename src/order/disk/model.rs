//! A folder that loses what was not synced, fails when told to, and tears writes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use fastrand::Rng;

use crate::order::disk::files::Folder;

/// Bytes that a disk writes at once, or not at all.
const SECTOR: usize = 64;

/// A folder that several logs use one after the other.
#[derive(Clone)]
pub(super) struct Model(Rc<RefCell<State>>);

struct State {
    files: BTreeMap<u64, File>,
    rng: Rng,
    /// How many operations in a thousand fail.
    faults: u32,
}

#[derive(Clone, Default)]
struct File {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What outlives a crash.
    durable: Vec<u8>,
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State { files: BTreeMap::new(), rng: Rng::with_seed(seed), faults: 0 })))
    }

    /// From now on so many operations in a thousand fail.
    pub(super) fn fail(&self, faults: u32) {
        self.0.borrow_mut().faults = faults;
    }

    /// The power goes: of what was not synced, any sectors are lost. A file that was being made may be left without any.
    pub(super) fn crash(&self) {
        let State { files, rng, .. } = &mut *self.0.borrow_mut();
        for file in files.values_mut() {
            file.lose(rng);
        }
        if let (Some(last), true) = (files.keys().last().copied(), rng.u8(..) < 30) {
            let mut unfinished = File::default();
            unfinished.seen = vec![0; rng.usize(0..100)];
            unfinished.durable = unfinished.seen.clone();
            files.insert(last + 1, unfinished);
        }
    }

    /// Flips a bit somewhere. Returns false if there is none.
    pub(super) fn flip(&self) -> bool {
        let State { files, rng, .. } = &mut *self.0.borrow_mut();
        let lens: Vec<(u64, usize)> = files.iter().map(|(number, file)| (*number, file.seen.len())).collect();
        let Some((number, len)) = rng.choice(lens).filter(|(_, len)| *len > 0) else { return false };
        let file = files.get_mut(&number).expect("chosen from them");
        let at = rng.usize(0..len);
        file.seen[at] ^= 1 << rng.u8(0..8);
        file.durable = file.seen.clone();
        true
    }

    fn has_fault(&self) -> bool {
        let State { rng, faults, .. } = &mut *self.0.borrow_mut();
        rng.u32(0..1000) < *faults
    }
}

impl File {
    fn lose(&mut self, rng: &mut Rng) {
        self.durable.resize(self.seen.len(), 0);
        let all_lost = rng.bool();
        for start in (0..self.seen.len()).step_by(SECTOR) {
            let sector = start..self.seen.len().min(start + SECTOR);
            if self.durable[sector.clone()] != self.seen[sector.clone()] && !all_lost && rng.bool() {
                self.durable[sector.clone()].copy_from_slice(&self.seen[sector]);
            }
        }
        self.seen = self.durable.clone();
    }
}

fn fault() -> io::Error {
    io::Error::other("as told")
}

impl Folder for Model {
    type File = u64;

    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.borrow().files.keys().copied().collect())
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        self.0.borrow().files.get(&segment).map(|file| file.seen.clone()).ok_or_else(fault)
    }

    fn settle(&mut self, segment: u64) -> io::Result<()> {
        let State { files, .. } = &mut *self.0.borrow_mut();
        let file = files.get_mut(&segment).ok_or_else(fault)?;
        file.durable = file.seen.clone();
        Ok(())
    }

    fn create(&mut self, segment: u64, bytes: u64) -> io::Result<u64> {
        if self.has_fault() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; usize::try_from(bytes).expect("small")];
        self.0.borrow_mut().files.insert(segment, File { seen: zeros.clone(), durable: zeros });
        Ok(segment)
    }

    fn write(&mut self, file: &mut u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        let fails = self.has_fault();
        let State { files, rng, .. } = &mut *self.0.borrow_mut();
        let file = files.get_mut(file).ok_or_else(fault)?;
        let len = if fails { rng.usize(0..=bytes.len()) } else { bytes.len() };
        let at = usize::try_from(at).expect("small");
        file.seen[at..at + len].copy_from_slice(&bytes[..len]);
        if fails { Err(fault()) } else { Ok(()) }
    }

    fn sync(&mut self, file: &mut u64) -> io::Result<()> {
        let fails = self.has_fault();
        let State { files, rng, .. } = &mut *self.0.borrow_mut();
        let file = files.get_mut(file).ok_or_else(fault)?;
        if fails {
            // Pages that could not be written are taken for clean: the next sync says nothing of them.
            file.lose(rng);
            return Err(fault());
        }
        file.durable = file.seen.clone();
        Ok(())
    }

    fn shorten(&mut self, file: &mut u64, bytes: u64) -> io::Result<()> {
        if self.has_fault() {
            return Err(fault());
        }
        let bytes = usize::try_from(bytes).expect("small");
        let State { files, rng, .. } = &mut *self.0.borrow_mut();
        let file = files.get_mut(file).ok_or_else(fault)?;
        file.seen.truncate(bytes);
        if rng.bool() {
            file.durable.truncate(bytes);
        }
        Ok(())
    }

    fn trim(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        self.shorten(&mut segment.clone(), bytes)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        if self.has_fault() {
            return Err(fault());
        }
        // The name comes back if the power goes before the folder is synced: rarely enough, it is left here.
        if self.0.borrow_mut().rng.u8(..) > 20 {
            self.0.borrow_mut().files.remove(&segment);
        }
        Ok(())
    }
}
