//! The query of the list of rooms.

use crate::answer::problem::Problem;
use crate::http::api::query::{LIMIT_DEFAULT, Once, decode, each, invalid, page_limit};
use crate::http::api::route::room_name;
use crate::types::name::RoomName;

/// What rooms are sorted by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sort {
    /// The most connections first.
    #[default]
    Listeners,
    /// The most events a second first.
    Rate,
    /// The most bytes of history first.
    Bytes,
    /// In alphabetical order.
    Name,
}

/// Which page of the list of rooms to return.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomsQuery {
    /// The order of the list.
    pub sort: Sort,
    /// Rooms on the page: 1 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
    /// Only rooms that come after this one; the first page if absent.
    pub after: Option<RoomName>,
}

impl RoomsQuery {
    /// Reads `?sort=listeners&limit=N&after=<room>`.
    ///
    /// # Errors
    ///
    /// [`Code::LimitInvalid`](crate::answer::problem::Code::LimitInvalid),
    /// [`Code::RoomInvalid`](crate::answer::problem::Code::RoomInvalid) or
    /// [`Code::QueryInvalid`](crate::answer::problem::Code::QueryInvalid).
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut found = (Once::default(), Once::default(), Once::default());
        let (sort, limit, after) = (&mut found.0, &mut found.1, &mut found.2);
        each(query, |name, value| match name {
            "sort" => sort.set(parse_sort(&decode(value)?)?),
            "limit" => limit.set(page_limit(&decode(value)?)?),
            "after" => after.set(room_name(&decode(value)?)?),
            _ => Ok(()),
        })?;
        let (sort, limit, after) = (found.0.0, found.1.0, found.2.0);
        Ok(Self { sort: sort.unwrap_or_default(), limit: limit.unwrap_or(LIMIT_DEFAULT), after })
    }
}

fn parse_sort(text: &str) -> Result<Sort, Problem> {
    match text {
        "listeners" => Ok(Sort::Listeners),
        "rate" => Ok(Sort::Rate),
        "bytes" => Ok(Sort::Bytes),
        "name" => Ok(Sort::Name),
        _ => Err(invalid("sort is listeners, rate, bytes or name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::problem::Code;

    #[test]
    fn pages_of_rooms() {
        let page = |sort, limit, after: Option<&str>| {
            Ok(RoomsQuery { sort, limit, after: after.map(|room| RoomName::new(room).unwrap()) })
        };
        assert_eq!(RoomsQuery::parse(None), page(Sort::Listeners, 100, None));
        for (query, wanted) in [
            ("sort=listeners&limit=1", page(Sort::Listeners, 1, None)),
            ("sort=rate&limit=1000&_=1", page(Sort::Rate, 1000, None)),
            ("sort=bytes&after=a%2Cb", page(Sort::Bytes, 100, Some("a,b"))),
            ("sort=name", page(Sort::Name, 100, None)),
        ] {
            assert_eq!(RoomsQuery::parse(Some(query)), wanted, "{query}");
        }
        for (query, wanted) in [
            ("sort=", Code::QueryInvalid),
            ("sort=Name", Code::QueryInvalid),
            ("sort=name&sort=name", Code::QueryInvalid),
            ("limit=0", Code::LimitInvalid),
            ("limit=1001", Code::LimitInvalid),
            ("after=", Code::RoomInvalid),
            ("after=a%0A", Code::RoomInvalid),
            ("after=a&after=b", Code::QueryInvalid),
        ] {
            let refused = RoomsQuery::parse(Some(query)).expect_err(query);
            assert_eq!((refused.code, refused.field.is_some()), (wanted, true), "{query}");
        }
    }
}
