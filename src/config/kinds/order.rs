//! The kinds of the settings `order` and `order_ack`: where the order of events is kept, and what has an event before its
//! publish is answered.

use std::fmt;
use std::path::PathBuf;

use crate::config::kinds::secret::MASK;
use crate::config::kinds::{Masked, Plain};
use crate::types::words::words;

/// Where the order of events is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OrderPlace {
    /// In memory: a restart begins a new one.
    Memory,
    /// In a folder on disk.
    Disk(PathBuf),
    /// In Redis, for several nodes.
    Redis(RedisUrl),
}

words! {
    /// What has an event before its publish is answered. The word is the `durability` of the answer.
    Ack {
        /// The memory of this process.
        Memory = "memory",
        /// The disk of this machine.
        Disk = "disk",
        /// Redis.
        Redis = "redis",
        /// Redis, and a replica of it.
        RedisAndReplica = "redis+1",
        /// The disk of Redis.
        RedisDisk = "redis-disk",
    }
}

/// The URL of a Redis. Its password is never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl OrderPlace {
    /// Whether it ends with the process.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        *self == Self::Memory
    }

    /// The word for it in answers.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk(_) => "disk",
            Self::Redis(_) => "redis",
        }
    }

    /// Reads a place. `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "memory" {
            return Some(Self::Memory);
        }
        if text.len() > PLACE_BYTES_MAX {
            return None;
        }
        if let Some(path) = text.strip_prefix("disk:") {
            let path = PathBuf::from(path);
            return path.is_absolute().then_some(Self::Disk(path));
        }
        let is_redis =
            REDIS_SCHEMES.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
        is_redis.then(|| Self::Redis(RedisUrl(text.to_owned())))
    }

    fn print(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Disk(path) => format!("disk:{}", path.display()),
            Self::Redis(RedisUrl(url)) => url.clone(),
        }
    }
}

/// How the URL of a Redis begins.
const REDIS_SCHEMES: [&str; 5] =
    ["redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://", "unix:/"];

/// `text` with the password of its URL masked.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}"),
        None => text.to_owned(),
    }
}

/// An [`OrderPlace`].
pub(crate) fn order_place() -> Masked<OrderPlace> {
    Masked {
        plain: Plain {
            placeholder: "PLACE",
            wanted: |_| {
                "memory, disk:PATH with an absolute path such as disk:/var/lib/tidegate, or a URL that begins with redis://, \
                 rediss://, redis+sentinel://, rediss+sentinel:// or unix:/"
                    .to_owned()
            },
            parse: OrderPlace::parse,
            print: OrderPlace::print,
        },
        shown: |place| masked(&place.print()),
        mask: masked,
    }
}

const PLACE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::Kind as _;

    #[test]
    fn a_place_is_memory_an_absolute_path_or_a_redis() {
        for text in [
            "memory",
            "disk:/var/lib/tidegate",
            "redis://127.0.0.1",
            "rediss://u:p@redis.example:6380/1",
            "redis+sentinel://a:26379,b/main",
            "rediss+sentinel://a,b/main",
            "unix:/run/redis.sock",
        ] {
            let place = order_place().parse(text).expect("a place");
            assert_eq!((order_place().print(&place), place.is_memory()), (text.to_owned(), text == "memory"));
        }
        for text in ["", "disk", "disk:", "disk:data", "/var/lib/tidegate", "Memory", "redis://", "http://r"]
        {
            assert_eq!(order_place().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let place = order_place().parse("redis://u:secret@r.example/1").expect("a place");
        assert!(!format!("{place:?}").contains("secret"), "{place:?}");
        assert!(!(order_place().shown)(&place).contains("secret"));
        assert!(!masked("redis://:se@cret@r").contains("cret@"), "{}", masked("redis://:se@cret@r"));
    }
}
