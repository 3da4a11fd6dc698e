//! The layers: text by key, each with the place where it was written. The last text of a key counts. Tables are in the
//! file alone, and have layers of their own.

use crate::config::error::{ConfigError, Place, Source};
use crate::config::kinds::Kind;
use crate::config::setting::Setting;

/// One value as it was written.
pub(crate) struct Given {
    pub(crate) setting: &'static Setting,
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// All values given, the weakest layer first.
#[derive(Default)]
pub(crate) struct Layers {
    values: Vec<Given>,
    /// The tables `[[room]]`, in their order.
    pub(super) rooms: Vec<GivenTable>,
}

/// One table of the file.
pub(crate) struct GivenTable {
    /// Where it begins.
    pub(super) place: Place,
    /// Its values.
    pub(super) keys: Layers,
}

impl Layers {
    /// Puts `layer` above all others.
    pub(super) fn append(&mut self, layer: impl IntoIterator<Item = Given>) {
        self.values.extend(layer);
    }

    pub(super) fn read_env(&mut self, settings: &'static [Setting], env: impl Fn(&str) -> Option<String>) {
        self.append(settings.iter().filter_map(|setting| {
            let text = env(&setting.env())?;
            Some(Given { setting, text, source: Source::Env })
        }));
    }

    /// The value of `key` that counts, if any was given.
    pub(super) fn given(&self, key: &str) -> Option<&Given> {
        self.all(key).last()
    }

    /// Reads every value given for `key` and returns the last that is right, or the default.
    pub(super) fn value<K: Kind>(
        &self,
        key: &'static str,
        kind: &K,
        default: &str,
        errors: &mut Vec<ConfigError>,
    ) -> K::Value {
        let mut value = kind.parse(default).expect("the table's defaults are right");
        for given in self.all(key) {
            match kind.parse(&given.text) {
                Some(read) => value = read,
                None => errors.push(given.blame(kind.wanted_for(&given.text, default))),
            }
        }
        value
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &Given> {
        self.values.iter().filter(move |given| given.setting.key == key)
    }
}

impl Given {
    pub(super) fn blame(&self, wanted: String) -> ConfigError {
        let Self { setting, text, source } = self;
        ConfigError::Value { source: source.clone(), key: setting.key, value: (setting.masked)(text), wanted }
    }
}
