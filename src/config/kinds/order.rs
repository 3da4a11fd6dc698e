//! The kind of the setting `order`: where the order of events is kept.

use std::path::PathBuf;

use crate::config::kinds::Plain;

/// Where the order of events is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OrderPlace {
    /// In memory: a restart begins a new one.
    Memory,
    /// In a folder on disk.
    Disk(PathBuf),
}

impl OrderPlace {
    /// Whether it ends with the process.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        *self == Self::Memory
    }
}

/// An [`OrderPlace`].
pub(crate) fn order_place() -> Plain<OrderPlace> {
    Plain {
        placeholder: "PLACE",
        wanted: |_| "memory, or disk:PATH with an absolute path, such as disk:/var/lib/tidegate".to_owned(),
        parse: |text| {
            if text == "memory" {
                return Some(OrderPlace::Memory);
            }
            let path = PathBuf::from(text.strip_prefix("disk:")?);
            (path.is_absolute() && text.len() <= PATH_BYTES_MAX).then_some(OrderPlace::Disk(path))
        },
        print: |place| match place {
            OrderPlace::Memory => "memory".to_owned(),
            OrderPlace::Disk(path) => format!("disk:{}", path.display()),
        },
    }
}

const PATH_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::Kind as _;

    #[test]
    fn a_place_is_memory_or_an_absolute_path() {
        for text in ["memory", "disk:/var/lib/tidegate"] {
            let place = order_place().parse(text).expect("a place");
            assert_eq!((order_place().print(&place), place.is_memory()), (text.to_owned(), text == "memory"));
        }
        for text in ["", "disk", "disk:", "disk:data", "/var/lib/tidegate", "Memory", "redis://127.0.0.1"] {
            assert_eq!(order_place().parse(text), None, "{text:?}");
        }
    }
}
