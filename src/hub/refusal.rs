//! Why a connection is not admitted.

use crate::types::words::words;

words! {
    /// Why a connection was not admitted.
    Refusal {
        /// All places are taken.
        Full = "full",
        /// The server is draining.
        Draining = "draining",
        /// The user has the most connections allowed.
        User = "user_connections",
        /// The address has the most connections allowed.
        Address = "address_connections",
        /// A room has the most connections allowed.
        RoomFull = "room_full",
        /// Memory is short.
        Memory = "memory",
        /// The server cannot find out now whether it may connect.
        Unidentified = "auth_unavailable",
        /// The most requests allowed wait for the application's answer.
        Waiting = "waiting",
    }
}
