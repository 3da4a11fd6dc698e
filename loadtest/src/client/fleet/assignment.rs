//! What the subscribers connect to, and how.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::plan::credentials::Credentials;
use crate::plan::scenario::{Names, Settings};
use crate::target::server::Target;

/// What the subscribers connect to and how.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assignment {
    /// The server.
    pub addr: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path before `/stream`.
    pub base: String,
    /// Whether a response's head is all there is to see of `connected`.
    pub is_head_connected: bool,
    /// Names of rooms and users.
    pub names: Names,
    /// The scenario in numbers.
    pub settings: Settings,
    /// The credentials of each subscriber, if the server requires any.
    pub credentials: Option<Credentials>,
}

impl Assignment {
    /// The assignment for `target`.
    #[must_use]
    pub fn new(target: &Target, names: Names, settings: Settings) -> Self {
        Self {
            addr: target.addr,
            host: target.host.clone(),
            base: target.base.clone(),
            is_head_connected: target.is_head_connected,
            names,
            settings,
            credentials: target.credentials.clone(),
        }
    }

    /// The request that subscribes connection `index`, from `last_id` on if there is one. Both ways to present it are
    /// used: the header that browsers send, and the query for clients that can't set headers.
    #[must_use]
    pub fn request(&self, index: usize, last_id: &[u8]) -> String {
        let Self { base, host, names, settings, .. } = self;
        let room = names.room(index % settings.rooms);
        let user = names.user(index);
        let encoding = if settings.gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let id = String::from_utf8_lossy(last_id);
        let mut query = Vec::new();
        let mut header = String::new();
        match (id.is_empty(), index % 2) {
            (true, _) => {}
            (false, 0) => header = format!("Last-Event-ID: {id}\r\n"),
            (false, _) => query.push(format!("last_event_id={id}")),
        }
        // The load test's own first connection, whose number is one too high, is no member.
        if settings.members.is_on && index < settings.connections {
            query.push("presence=on".to_owned());
        }
        if settings.poll_s > 0 {
            query.push(format!("poll={}", settings.poll_s));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let token = self.credentials.as_ref().map(|all| all.subscriber(&user)).unwrap_or_default();
        format!(
            "GET {base}/stream/{room}/{user}{query} HTTP/1.1\r\nHost: {host}\r\n\
             Accept: text/event-stream\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n{token}{encoding}{header}\r\n"
        )
    }

    /// Whether every event of connection `index` is looked at: it reads, and is not among the compressed streams that
    /// are only counted.
    #[must_use]
    pub fn is_checked(&self, index: usize) -> bool {
        let settings = &self.settings;
        let part = (0..settings.processes).map(|nth| settings.part(nth)).find(|part| part.contains(&index));
        let within = index - part.map_or(0, |part| part.start);
        index >= settings.stuck && (!settings.gzip || within / settings.threads < INFLATED)
    }
}

/// Compressed streams inflated and checked in full, per thread.
pub(super) const INFLATED: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::plan::scenario::Scenario;

    fn assignment(settings: Settings) -> Assignment {
        Assignment {
            addr: (Ipv4Addr::LOCALHOST, 1).into(),
            host: "h".to_owned(),
            base: "/b".to_owned(),
            names: Names::default(),
            settings,
            is_head_connected: false,
            credentials: None,
        }
    }

    #[test]
    fn a_last_id_is_presented_in_the_header_or_the_query() {
        let assignment = assignment(Scenario::Churn.defaults());
        assert!(assignment.request(4, b"e-7").contains("GET /b/stream/r0/u4 HTTP/1.1\r\n"));
        assert!(assignment.request(4, b"e-7").ends_with("Last-Event-ID: e-7\r\n\r\n"));
        assert!(assignment.request(5, b"e-7").contains("GET /b/stream/r0/u5?last_event_id=e-7 HTTP/1.1\r\n"));
        assert!(
            !assignment.request(5, b"").contains("ast"),
            "no id, no resume: {}",
            assignment.request(5, b"")
        );
    }

    #[test]
    fn members_and_polls_say_so_in_the_query() {
        let assignment_of = |scenario: Scenario| assignment(scenario.defaults());
        let request = assignment_of(Scenario::Poll).request(5, b"e-7");
        assert!(
            request.starts_with("GET /b/stream/r0/u5?last_event_id=e-7&poll=25 HTTP/1.1\r\n"),
            "{request}"
        );
        let request = assignment_of(Scenario::Presence).request(4, b"e-7");
        assert!(request.starts_with("GET /b/stream/r0/u4?presence=on HTTP/1.1\r\n"), "{request}");
        assert!(!assignment_of(Scenario::Presence).request(10_000, b"").contains('?'), "the first of all");
    }

    #[test]
    fn the_first_streams_of_every_part_are_inflated() {
        let settings = Settings { connections: 1_000, processes: 2, gzip: true, ..Scenario::Gzip.defaults() };
        let assignment = assignment(settings);
        let checked: Vec<usize> = (0..1_000).filter(|index| assignment.is_checked(*index)).collect();
        assert_eq!(checked.len(), 2 * INFLATED);
        assert_eq!((checked[0], checked[INFLATED]), (0, 500));
    }
}
