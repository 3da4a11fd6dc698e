//! Hints for paths that are not served: where the resource is that the request probably means. Fixed texts.

use crate::answer::problem::{Code, Problem};

/// The hint for a path that does not begin with the base path.
pub fn outside(path: &str) -> Problem {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    not_found(match first {
        first if ADMIN.contains(&first) => AT_ADMIN,
        first if resource(first).is_some() => {
            "the base path is missing in front of this path; GET / shows it"
        }
        _ => "every path but / begins with the base path, which GET / shows",
    })
}

/// The hint for a path below the base path, whose first segments are `segments`.
pub fn below(segments: &[&str]) -> Problem {
    let first = segments.first().copied().unwrap_or_default();
    not_found(match resource(first) {
        _ if ADMIN.contains(&first) => AT_ADMIN,
        Some(detail) => detail,
        None => {
            "below the base path are /stream, /publish, /rooms, /presence/ROOM, /users/online, /disconnect/ROOM/USER, /refresh, /revoke and /info"
        }
    })
}

/// The hint for a path that the admin listener does not have.
pub fn at_admin() -> Problem {
    not_found(
        "the admin listener has /metrics, /livez, /readyz and /dashboard; everything else is at the public listener",
    )
}

/// The form of the paths that begin with `first`.
fn resource(first: &str) -> Option<&'static str> {
    Some(match first {
        "stream" => {
            "a stream is at /stream/ROOM, /stream/ROOM/USER or /stream?room=ROOM; a slash in a name is written %2F"
        }
        "publish" => "publish with POST to /publish; the room is named in the body",
        "rooms" | "groups" => {
            "the rooms are listed at /rooms; a room is at /rooms/ROOM, with /history, /members and /mute/USER below it"
        }
        "history" => "the history of a room is at /rooms/ROOM/history",
        "presence" => "a user shows data with PUT to /presence/ROOM, and leaves with DELETE",
        "members" => "the members of a room are at /rooms/ROOM/members",
        "users" => "POST to /users/online tells which of some users are online",
        "disconnect" => "a user is disconnected with POST to /disconnect/ROOM/USER",
        "refresh" | "revoke" => "this path takes POST, and nothing is below it",
        "info" => "nothing is below /info",
        "client" | "client.js" => "the JavaScript client is at /client.js, and at /VERSION/client.js",
        _ => return None,
    })
}

fn not_found(detail: &'static str) -> Problem {
    Problem::new(Code::NotFound).with_detail(detail)
}

/// What the admin listener serves.
const ADMIN: [&str; 4] = ["metrics", "livez", "readyz", "dashboard"];
const AT_ADMIN: &str = "this path is at the admin listener (admin_listen), without the base path";

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(problem: &Problem) -> &'static str {
        assert_eq!(problem.code, Code::NotFound);
        problem.detail.expect("it says where to look")
    }

    #[test]
    fn half_a_path_is_told_the_whole_one() {
        let table: [(&[&str], &str); 11] = [
            (&["stream", "a", "b", "c"], "/stream?room=ROOM"),
            (&["stream", "a", "b", "c"], "/stream/ROOM/USER"),
            (&["rooms", "a", "events"], "with /history, /members and /mute/USER"),
            (&["presence"], "PUT to /presence/ROOM"),
            (&["members", "lobby"], "/rooms/ROOM/members"),
            (&["users"], "/users/online"),
            (&["history", "lobby"], "/rooms/ROOM/history"),
            (&["disconnect", "lobby"], "/disconnect/ROOM/USER"),
            (&["publish", "lobby"], "POST to /publish"),
            (&["metrics"], "admin_listen"),
            (&["events"], "/stream, /publish"),
        ];
        for (segments, told) in table {
            let detail = detail(&below(segments));
            assert!(detail.contains(told), "{segments:?}: {detail}");
        }
    }

    #[test]
    fn a_wrong_base_path_is_told_where_the_right_one_is() {
        for (path, told) in [
            ("/stream/lobby/me", "is missing in front of this"),
            ("/api/v2/stream", "begins with the base path"),
            ("/readyz", "admin_listen"),
            ("", "begins with the base path"),
        ] {
            let detail = detail(&outside(path));
            assert!(detail.contains(told), "{path}: {detail}");
        }
    }
}
