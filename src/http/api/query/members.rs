//! The query of the list of a room's members.

use crate::answer::problem::Problem;
use crate::http::api::query::{LIMIT_DEFAULT, Once, decode, each, page_limit};
use crate::http::api::route::user_name;
use crate::types::name::UserName;

/// Which page of a room's members to return.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MembersQuery {
    /// Members on the page: 1 to [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
    /// Only members whose names come after this one; the first page if absent.
    pub after: Option<UserName>,
}

impl MembersQuery {
    /// Reads `?limit=N&after=<user>`.
    ///
    /// # Errors
    ///
    /// [`Code::LimitInvalid`](crate::answer::problem::Code::LimitInvalid),
    /// [`Code::UserInvalid`](crate::answer::problem::Code::UserInvalid) or
    /// [`Code::QueryInvalid`](crate::answer::problem::Code::QueryInvalid).
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let (mut limit, mut after) = (Once::default(), Once::default());
        each(query, |name, value| match name {
            "limit" => limit.set(page_limit(&decode(value)?)?),
            "after" => after.set(user_name(&decode(value)?)?),
            _ => Ok(()),
        })?;
        Ok(Self { limit: limit.0.unwrap_or(LIMIT_DEFAULT), after: after.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::problem::Code;

    #[test]
    fn pages_of_members() {
        let page = |limit, after: Option<&str>| {
            Ok(MembersQuery { limit, after: after.map(|user| UserName::new(user).unwrap()) })
        };
        assert_eq!(MembersQuery::parse(None), page(100, None));
        assert_eq!(MembersQuery::parse(Some("limit=7&after=a+b&_=1")), page(7, Some("a b")));
        for (query, wanted) in [
            ("limit=0", Code::LimitInvalid),
            ("limit=1001", Code::LimitInvalid),
            ("after=", Code::UserInvalid),
            ("after=a&after=b", Code::QueryInvalid),
        ] {
            let refused = MembersQuery::parse(Some(query)).expect_err(query);
            assert_eq!((refused.code, refused.field.is_some()), (wanted, true), "{query}");
        }
    }
}
