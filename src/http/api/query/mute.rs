//! The query of a mute.

use std::time::Duration;

use crate::answer::problem::Problem;
use crate::http::api::query::time;

/// The longest time a user can be muted, unless it is until somebody undoes it.
pub const MUTE_MAX: Duration = Duration::from_hours(365 * 24);

/// How long a user is muted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MuteQuery {
    /// The time, at most [`MUTE_MAX`]; `None` until it is undone.
    pub time: Option<Duration>,
}

impl MuteQuery {
    /// Reads `?for=60`, in seconds, or with units as in `for=10m`.
    ///
    /// # Errors
    ///
    /// [`Code::QueryInvalid`](crate::answer::problem::Code::QueryInvalid).
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let fits = |time: Duration| !time.is_zero() && time <= MUTE_MAX;
        let detail = "a time is written as seconds, or as in 10m or 1h30m, above 0 and at most 365 days";
        Ok(Self { time: time(query, "for", fits, detail)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_has_a_time_or_no_end() {
        let time = |query| MuteQuery::parse(query).map(|query| query.time).ok();
        let minutes = Some(Some(Duration::from_mins(10)));
        assert_eq!([time(Some("for=10m")), time(Some("for=600")), time(Some("for=9m60s"))], [minutes; 3]);
        assert_eq!([time(None), time(Some("a=b"))], [Some(None); 2]);
        assert_eq!(time(Some("for=365d")), Some(Some(MUTE_MAX)));
        for query in ["for=", "for=0", "for=0s", "for=366d", "for=-1", "for=%zz", "for=1&for=1"] {
            assert_eq!(time(Some(query)), None, "{query}");
        }
    }
}
