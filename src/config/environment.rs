//! Variables that look like settings but are not. They are reported and not refused: Kubernetes sets some of its own
//! for a service called `tidegate`.

use std::fmt;

use crate::config::nearest::nearest;
use crate::config::table::SETTINGS;

/// The prefix of all variables of Tidegate.
const PREFIX: &str = "TIDEGATE_";

/// Variables of Tidegate that are not settings.
const OTHERS: [&str; 1] = ["TIDEGATE_CONFIG"];

/// A variable that names no setting. Its value is left out: it may be a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownVariable {
    name: String,
    /// The key of the setting that was probably meant.
    nearest: Option<&'static str>,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown variable {:?} is ignored: ", self.name)?;
        match self.nearest {
            Some(key) => write!(f, "did you mean {PREFIX}{}?", key.to_ascii_uppercase()),
            None => f.write_str("wanted one that --help lists"),
        }
    }
}

/// Those of `names` that have the prefix but name nothing, in their order.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<UnknownVariable> {
    let is_known = |name: &str| {
        OTHERS.contains(&name)
            || is_of_kubernetes(name)
            || SETTINGS.iter().any(|setting| setting.env() == name)
    };
    let ours = names.into_iter().filter(|name| name.starts_with(PREFIX) && !is_known(name));
    let unknown = ours.map(|name| {
        let nearest = nearest(&name, SETTINGS.iter().map(|setting| setting.key));
        UnknownVariable { name, nearest }
    });
    unknown.collect()
}

/// Whether Kubernetes sets it, such as `TIDEGATE_SERVICE_HOST` and `TIDEGATE_ADMIN_PORT_9180_TCP_ADDR` for the services
/// `tidegate` and `tidegate-admin`.
fn is_of_kubernetes(name: &str) -> bool {
    name.contains("_SERVICE_") || name.contains("_PORT_") || name.ends_with("_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Vec<String> {
        unknown_variables([name.to_owned()]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        assert_eq!(
            told("TIDEGATE_TOKEN_KEY"),
            [r#"unknown variable "TIDEGATE_TOKEN_KEY" is ignored: did you mean TIDEGATE_TOKEN_KEYS?"#]
        );
        assert_eq!(
            told("TIDEGATE_COMPRESSION"),
            [r#"unknown variable "TIDEGATE_COMPRESSION" is ignored: wanted one that --help lists"#]
        );
    }

    #[test]
    fn settings_and_what_others_set_are_no_slips() {
        for setting in SETTINGS {
            assert_eq!(told(&setting.env()), [""; 0]);
            assert!(!is_of_kubernetes(&setting.env()), "a slip in {} would be overlooked", setting.key);
        }
        for name in [
            "PATH",
            "TIDEGATE_CONFIG",
            "TIDEGATE_PORT",
            "TIDEGATE_PORT_8080_TCP_PROTO",
            "TIDEGATE_SERVICE_HOST",
            "TIDEGATE_ADMIN_SERVICE_PORT_HTTP",
        ] {
            assert_eq!(told(name), [""; 0], "{name}");
        }
    }
}
