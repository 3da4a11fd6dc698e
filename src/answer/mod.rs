//! The shape of answers: `application/problem+json`, and the headers that every answer has.

pub mod field_name;
pub mod headers;
pub mod problem;
