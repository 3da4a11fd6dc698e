//! The limit on resident memory: the limit of the machine, a size, or none.

use crate::config::kinds::Kind;
use crate::config::kinds::bounded::{GIB, MIB, Size, size};

/// Resident memory the process should stay below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryLimit {
    /// The control group's limit, or else the machine's memory.
    Auto,
    /// No limit.
    Off,
    /// This many bytes.
    Bytes(usize),
}

/// `auto`, `off` or a size.
pub(crate) fn memory_limit() -> MemoryLimitKind {
    // An empty server takes about 10 MiB.
    MemoryLimitKind(size(32 * MIB..=65_536 * GIB))
}

pub(crate) struct MemoryLimitKind(Size);

impl Kind for MemoryLimitKind {
    type Value = MemoryLimit;

    fn placeholder(&self) -> &'static str {
        self.0.placeholder()
    }

    fn wanted(&self, _: &str) -> String {
        format!("auto, off or {}", self.0.wanted("1GiB"))
    }

    fn parse(&self, text: &str) -> Option<MemoryLimit> {
        match text {
            "auto" => Some(MemoryLimit::Auto),
            "off" => Some(MemoryLimit::Off),
            text if self.0.is_zero(text) => Some(MemoryLimit::Off),
            text => self.0.parse(text).map(MemoryLimit::Bytes),
        }
    }

    fn print(&self, value: &MemoryLimit) -> String {
        match value {
            MemoryLimit::Auto => "auto".to_owned(),
            MemoryLimit::Off => "off".to_owned(),
            MemoryLimit::Bytes(bytes) => self.0.print(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let kind = memory_limit();
        for limit in [MemoryLimit::Auto, MemoryLimit::Off, MemoryLimit::Bytes(64 << 20)] {
            assert_eq!(kind.parse(&kind.print(&limit)), Some(limit));
        }
        for text in ["", "on", "1MiB", "-1", "AUTO", "80%"] {
            assert_eq!(kind.parse(text), None, "{text:?}");
        }
    }
}
