//! What a subscriber knows of who is present, by the rules that the documents give to clients. They say nothing of `rev`:
//! a message may repeat what a state has shown already, and what comes after it puts that right.

use std::collections::BTreeMap;

use serde_json::Value;

/// The members by name, with what each shows.
pub(crate) type Members = BTreeMap<String, Value>;

/// One room, as one stream knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Known {
    /// `None` if only their number is known.
    pub members: Option<Members>,
    pub total: u64,
}

impl Known {
    pub(crate) fn take(&mut self, data: &Value) {
        self.total = data["total"].as_u64().expect("a number");
        match data["type"].as_str() {
            Some("state") => self.members = Some(list(data, "members").map(member).collect()),
            Some("count") => self.members = None,
            Some("diff") => {
                let members = self.members.get_or_insert_default();
                members.extend(list(data, "join").chain(list(data, "update")).map(member));
                for gone in list(data, "leave") {
                    members.remove(gone.as_str().expect("a name"));
                }
            }
            other => panic!("a message of type {other:?}"),
        }
    }
}

fn list<'v>(data: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    data[key].as_array().into_iter().flatten()
}

fn member(member: &Value) -> (String, Value) {
    (member["user"].as_str().expect("a name").to_owned(), member["data"].clone())
}
