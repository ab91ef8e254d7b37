//! The store on real directories and a real S3 server.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod backends;
mod channels;
mod damage;
mod failures;
mod killed;
mod round_trip;
mod small_disk;
mod web;
mod web_server;
