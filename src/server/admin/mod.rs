//! The admin listener: what operators and their tools read over HTTP.

pub mod exposition;
