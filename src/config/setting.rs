//! A setting's row in a table, and the macro that builds the table.
//!
//! [`settings!`] turns each row into a field of a struct (`Config`), an entry of a list (`SETTINGS`), a line of the
//! parser and a line of the printer. The row's doc comment is the field's documentation and the text of `--help` at
//! once. There are two tables: the server's settings, and the keys of a `[[room]]`.

use crate::config::kinds::{Kind, Shape};

/// One row of the table without its parser, which has a type of its own and is called by `Config::parse`.
pub(crate) struct Setting {
    /// As in the TOML file.
    pub(crate) key: &'static str,
    /// Heading in `--help`.
    pub(crate) section: &'static str,
    /// As text, the way the environment and flags take it.
    pub(crate) default: &'static str,
    /// Starts with the space that `///` leaves.
    pub(crate) help: &'static str,
    pub(crate) facts: fn() -> Facts,
    /// Masks the secret parts of a text that is not accepted.
    pub(crate) masked: fn(&str) -> String,
}

/// What a row's parser says about itself.
pub(crate) struct Facts {
    pub(crate) shape: Shape,
    /// Stands for the value in `--help`.
    pub(crate) placeholder: &'static str,
    /// Completes "wanted ...".
    pub(crate) wanted: String,
}

/// One row of the settings table, for documentation and for the tests that compare documentation with it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reference {
    /// As in the TOML file; `TIDEGATE_` and upper case for the environment, `--` and dashes for flags.
    pub key: &'static str,
    /// Its heading in `--help`.
    pub section: &'static str,
    /// As the environment and flags take it. Empty for an empty list.
    pub default: &'static str,
    /// What it is for, in whole sentences.
    pub help: &'static str,
    /// What it accepts, bounds included: completes "wanted ...".
    pub wanted: String,
}

impl Setting {
    pub(crate) fn env(&self) -> String {
        format!("TIDEGATE_{}", self.key.to_ascii_uppercase())
    }

    /// Without the leading `--`.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    pub(crate) fn help(&self) -> &'static str {
        self.help.trim_start()
    }

    pub(crate) fn reference(&self) -> Reference {
        Reference {
            key: self.key,
            section: self.section,
            default: self.default,
            help: self.help(),
            wanted: (self.facts)().wanted,
        }
    }
}

pub(crate) fn facts<K: Kind>(kind: &K, default: &str) -> Facts {
    Facts { shape: K::SHAPE, placeholder: kind.placeholder(), wanted: kind.wanted(default) }
}

/// Declares a struct with a field for each row, its parser and printer, and the list of its rows. Before the rows there
/// may be one field more, which is in no list: its key, and the function that reads it from the layers.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $name:ident, $list:ident;
        $(
            $(#[doc = $extra_doc:literal])+
            $extra_key:literal $extra:ident: $extra_type:ty = $read:path;
        )?
        $($section:literal { $(
            $(#[doc = $doc:literal])+
            $key:ident: $type:ty = $default:literal, $kind:expr;
        )+ })+
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name {
            $($(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", $default, "`.")]
                pub $key: $type,
            )+)+
            $(
                $(#[doc = $extra_doc])+
                pub $extra: $extra_type,
            )?
        }

        /// The table, in the order of its rows.
        pub(crate) static $list: &[Setting] = &[$($(Setting {
            key: stringify!($key),
            section: $section,
            default: $default,
            help: concat!($($doc),+),
            facts: || facts(&$kind, $default),
            masked: |text| $kind.masked(text),
        },)+)+];

        impl $name {
            /// Parses each setting by itself. `check::resolve` compares them with each other and the machine, and fills
            /// in what zero stands for. Failures are added to `errors`; the result must not be used then.
            pub(crate) fn parse(layers: &Layers, errors: &mut Vec<ConfigError>) -> Self {
                Self {
                    $($($key: layers.value(stringify!($key), &$kind, $default, errors),)+)+
                    $($extra: $read(layers, errors),)?
                }
            }

            /// The settings as text that parses to the same, in the order of the rows.
            pub(crate) fn written(&self) -> Vec<String> {
                vec![$($($kind.print(&self.$key),)+)+]
            }

            /// The same with secrets masked.
            pub(crate) fn shown(&self) -> Vec<String> {
                vec![$($($kind.shown(&self.$key),)+)+]
            }

            /// Keys of the settings in which `other` differs, in the order of the rows.
            pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
                let differs = [
                    $($((stringify!($key), self.$key != other.$key),)+)+
                    $(($extra_key, self.$extra != other.$extra),)?
                ];
                differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
            }
        }
    };
}
pub(crate) use settings;
