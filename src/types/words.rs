//! Closed sets of words: enums whose values each have one name, on the wire, in settings and in metrics.
//!
//! Labels of metrics are such sets, so their number is known when the program is built.

/// A type whose values are all named.
pub trait Words: Copy + PartialEq + Sized + 'static {
    /// Every value, in the order of their indices.
    const ALL: &'static [Self];

    /// The name of this value.
    fn word(self) -> &'static str;
}

/// Declares an enum, and the word for each of its values.
macro_rules! words {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $type {
            $($(#[$doc])* $value,)+
        }

        impl $type {
            /// Every value, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// Its word, on the wire, in settings and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl $crate::types::words::Words for $type {
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    };
}
pub(crate) use words;
