//! What a subscriber knows of who is present, by the rules that the documents give to clients.

use std::collections::BTreeMap;

use serde_json::Value;

/// The members by name, with what each shows.
pub(crate) type Members = BTreeMap<String, Value>;

/// One room, as one stream knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Known {
    rev: u64,
    /// `None` if only their number is known.
    pub members: Option<Members>,
    pub total: u64,
}

impl Known {
    pub(crate) fn take(&mut self, data: &Value) {
        let rev = data["rev"].as_u64().expect("a number");
        match data["type"].as_str() {
            // From before what it knows.
            Some("diff" | "count") if rev < self.rev => return,
            Some("diff") if rev == self.rev => return,
            Some("state") => self.members = Some(list(data, "members").map(member).collect()),
            Some("count") => self.members = None,
            Some("diff") => {
                let members = self.members.as_mut().expect("a state comes first");
                members.extend(list(data, "join").chain(list(data, "update")).map(member));
                for gone in list(data, "leave") {
                    members.remove(gone.as_str().expect("a name"));
                }
            }
            other => panic!("a message of type {other:?}"),
        }
        assert!(rev >= self.rev, "messages have rising numbers");
        self.rev = rev;
        self.total = data["total"].as_u64().expect("a number");
        if let Some(members) = &self.members {
            assert_eq!(members.len() as u64, self.total, "{data}");
        }
    }
}

fn list<'v>(data: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    data[key].as_array().into_iter().flatten()
}

fn member(member: &Value) -> (String, Value) {
    (member["user"].as_str().expect("a name").to_owned(), member["data"].clone())
}
