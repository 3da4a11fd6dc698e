//! The shipped dashboard, as far as a program can check it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::monitor::shipped;

/// The whole dashboard.
pub(crate) struct Dashboard(pub(crate) Value);

/// An expression and its origin.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// The panel, annotation or rule it belongs to.
    pub(crate) of: String,
    /// Its text as written there.
    pub(crate) expr: String,
}

impl Dashboard {
    /// Reads the shipped file.
    pub(crate) fn read() -> Self {
        Self(serde_json::from_str(&shipped("tidegate.json")).expect("JSON"))
    }

    /// Returns its panels, rows included.
    pub(crate) fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("panels")
    }

    /// Returns the panel with that id.
    pub(crate) fn panel(&self, id: &str) -> Option<&Value> {
        let id: u64 = id.parse().ok()?;
        self.panels().iter().find(|panel| panel["id"] == id)
    }

    /// Returns every expression of every panel.
    pub(crate) fn of_panels(&self) -> Vec<Expression> {
        let targets = |panel: &Value| -> Vec<Expression> {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            let of = format!("panel {} {}", panel["id"], panel["title"]);
            targets.iter().map(|target| Expression { of: of.clone(), expr: text(&target["expr"]) }).collect()
        };
        self.panels().iter().flat_map(targets).collect()
    }

    /// Returns every expression of every annotation.
    pub(crate) fn of_annotations(&self) -> Vec<Expression> {
        let annotations = self.0["annotations"]["list"].as_array().expect("annotations");
        let queried = annotations.iter().filter(|annotation| annotation["expr"].is_string());
        queried.map(|one| Expression { of: text(&one["name"]), expr: text(&one["expr"]) }).collect()
    }

    /// Returns the query of each variable but the data source.
    pub(crate) fn of_variables(&self) -> Vec<Expression> {
        let variables = self.0["templating"]["list"].as_array().expect("variables");
        let queried = variables.iter().filter(|variable| variable["type"] == "query");
        queried.map(|one| Expression { of: text(&one["name"]), expr: text(&one["query"]["query"]) }).collect()
    }
}

/// Returns a string that must be there.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

impl Expression {
    /// Returns the query as Grafana would send it over a minute, for all instances.
    pub(crate) fn concrete(&self) -> String {
        let variables =
            [("$__rate_interval", "10s"), ("$__range", "1m"), ("$job", ".+"), ("$instance", ".+")];
        let concrete =
            variables.iter().fold(self.expr.clone(), |expr, (name, value)| expr.replace(name, value));
        assert!(!concrete.contains('$'), "{}: a variable that is not known here: {concrete}", self.of);
        concrete
    }

    /// Returns an alert's expression with its comparisons as values, so that it has a result when no alert is on.
    pub(crate) fn unfiltered(&self) -> String {
        if let Some(inner) = self.expr.strip_prefix("absent(").and_then(|rest| rest.strip_suffix(')')) {
            return inner.to_owned();
        }
        [" == ", " > ", " >= "]
            .iter()
            .fold(self.expr.clone(), |expr, sign| expr.replace(sign, &format!("{sign}bool ")))
    }

    /// Returns the metrics and recorded series it names.
    pub(crate) fn metrics(&self) -> BTreeSet<String> {
        let known = ["tidegate_", "process_", "instance:"];
        let plain: String = self.expr.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        let words = plain.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        words.filter(|word| known.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
    }

    /// Returns the values of `label` it asks for by name.
    pub(crate) fn values_of(&self, label: &str) -> Vec<String> {
        let label = format!("{label}=");
        let asked = self.expr.split(&label).skip(1);
        let values =
            asked.filter_map(|rest| rest.trim_start_matches('~').strip_prefix('"')?.split('"').next());
        values.flat_map(|values| values.split('|')).map(str::to_owned).collect()
    }
}
