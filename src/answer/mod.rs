//! The shape of answers: `application/problem+json`, the headers that every answer has, and the look of our pages (`look`).

pub mod code;
pub mod field_name;
pub mod headers;
pub mod problem;
pub mod told;
