//! One object hosted on one machine: `unimodel up` and what asks it.
//!
//! The core ([`unimodel_operator`]) decides; this observes and does: servers and a gateway are processes, their ports are
//! chosen free, certificates are made at each start. What others may know stands in files of one directory ([`place`]).

pub mod certificates;
pub mod file;
pub mod host;
pub mod http;
pub mod place;
pub mod process;
pub mod replica;
pub mod versions;
