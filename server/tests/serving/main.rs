//! The program itself, as a process: started with a configuration file, asked over sockets, told to change and to stop.

#![allow(clippy::unwrap_used)]

mod cache;
mod collector;
mod config;
mod control;
#[allow(dead_code)]
#[path = "../api/document.rs"]
mod document;
#[allow(dead_code)]
#[path = "../runtime/fixture.rs"]
mod fixture;
mod openapi;
mod operations;
mod process;
#[path = "../../../model/tests/store/small_disk.rs"]
mod small_disk;
mod start;
mod stop;
mod store;
mod threads;
mod tls;
mod traces;
#[path = "../../../model/tests/store/web_server.rs"]
mod web_server;
#[allow(dead_code)]
#[path = "../compute_engine/world.rs"]
mod world;
