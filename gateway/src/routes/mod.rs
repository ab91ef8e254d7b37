//! The routes file: everything that a gateway knows. `docs/gateway.md` is its reference.

mod check;
mod load;
mod types;

pub use load::{Problem, RoutesError, json_schema, parse};
pub use types::{
    Attribute, Element, Endpoint, Fallback, Head, Hedging, Popularity, Routes, Service, Share, Span, StaticList, Task,
    Timeout, Version,
};
