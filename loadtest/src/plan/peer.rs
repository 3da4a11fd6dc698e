//! The servers that Tidegate is compared with.

use super::scenario::Scenario;

/// A server to compare with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Peer {
    /// One `send` per connection and event, one thread.
    Floor,
    /// The same, coalescing for 20 ms.
    FloorTick,
    /// axum and a broadcast channel a room.
    Axum,
    /// Go's `net/http`, a channel for each subscriber.
    Go,
    /// Node's `http`, as tutorials teach it.
    Node,
    /// nginx with the nchan module.
    Nchan,
    /// Pushpin before an origin that accepts every subscriber.
    Pushpin,
}

impl Peer {
    /// The peers of the suite. The floor with a tick is left out: it batches.
    pub const SUITE: [Self; 6] = [Self::Floor, Self::Axum, Self::Go, Self::Node, Self::Nchan, Self::Pushpin];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorTick => "floor-tick",
            Self::Axum => "axum",
            Self::Go => "go",
            Self::Node => "node",
            Self::Nchan => "nchan",
            Self::Pushpin => "pushpin",
        }
    }

    /// Whether `scenario` means anything for it. A peer runs `gzip` uncompressed.
    #[must_use]
    pub fn supports(self, scenario: Scenario) -> bool {
        match self {
            // None of them can resume a stream the way the load test does.
            _ if scenario.needs_resume() || scenario.needs_tidegate() => false,
            Self::Floor | Self::FloorTick => true,
            Self::Axum => scenario != Scenario::Targeted,
            // They know rooms, not users. Their drain and their compression are not measured.
            Self::Go | Self::Node | Self::Nchan | Self::Pushpin => {
                !matches!(scenario, Scenario::Targeted | Scenario::Drain | Scenario::Gzip)
            }
        }
    }

    /// Connections it copes with opening at a time. Above this it loses some for good, and nothing else could be
    /// measured.
    #[must_use]
    pub fn in_flight_max(self) -> usize {
        // The four processes tell each other of a new connection over queues that drop what does not fit.
        if self == Self::Pushpin { 16 } else { usize::MAX }
    }
}
