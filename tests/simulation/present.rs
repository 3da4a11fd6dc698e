//! What a subscriber knows of who is present, by the rules that the documents give to clients.

use std::collections::BTreeSet;

use serde_json::Value;

/// One room, as one stream knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Known {
    rev: u64,
    /// The members by name; `None` if only their number is known.
    pub names: Option<BTreeSet<String>>,
    pub total: u64,
}

impl Known {
    pub(crate) fn take(&mut self, data: &Value) {
        let rev = data["rev"].as_u64().expect("a number");
        let name = |member: &Value| member["user"].as_str().expect("a name").to_owned();
        let list = |key: &str| data[key].as_array().cloned().unwrap_or_default();
        match data["type"].as_str() {
            // From before what it knows.
            Some("diff" | "count") if rev < self.rev => return,
            Some("diff") if rev == self.rev => return,
            Some("state") => self.names = Some(list("members").iter().map(name).collect()),
            Some("count") => self.names = None,
            Some("diff") => {
                let names = self.names.as_mut().expect("a state comes first");
                names.extend(list("join").iter().chain(&list("update")).map(name));
                for gone in list("leave") {
                    names.remove(gone.as_str().expect("a name"));
                }
            }
            other => panic!("a message of type {other:?}"),
        }
        assert!(rev >= self.rev, "messages have rising numbers");
        self.rev = rev;
        self.total = data["total"].as_u64().expect("a number");
        if let Some(names) = &self.names {
            assert_eq!(names.len() as u64, self.total, "{data}");
        }
    }
}
