//! What a ranking takes from the allocator: nothing that grows with its candidates, one by one.

#![allow(clippy::unwrap_used)]

use std::alloc::System;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::ServiceExt;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;

#[allow(dead_code)]
#[path = "runtime/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "compute_engine/world.rs"]
mod world;

use fixture::{Fixture, Recipe, Served};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of one request for so many ids, in all threads: its own, and those of other requests before it are not counted.
fn allocations(served: &Served, ids: usize) -> usize {
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router = service(Front::new(served.runtime.clone(), BodyLimits::default()));
    let ids: Vec<String> = (0..ids).map(|item| format!("i{item}")).collect();
    let body = json!({ "context": { "age": 33 }, "candidates": { "ids": ids }, "limit": 10 }).to_string();
    let ask = || {
        let request = Request::post("/v1/tasks/h0:rank").body(Body::from(body.clone())).unwrap();
        let (router, region) = (router.clone(), Region::new(ALLOCATOR));
        let status = io.block_on(async {
            let response = router.oneshot(request).await.unwrap();
            let status = response.status();
            response.into_body().collect().await.unwrap();
            status
        });
        assert_eq!(status, 200);
        let change = region.change();
        change.allocations + change.reallocations
    };
    // The first ones grow what each thread keeps for all that follow. A thread may end its part of one in the next.
    (0..30).map(|_| ask()).min().unwrap()
}

#[test]
fn ten_times_the_candidates_are_not_ten_times_the_allocations() {
    for recipe in [Recipe { items: 1000, ..Recipe::default() }, Recipe { items: 1000, ..Recipe::ranked() }] {
        let served = Served::new(&Fixture::new(&recipe));
        let (few, many) = (allocations(&served, 100), allocations(&served, 1000));
        // A list whose length is not known before doubles as it grows: three or four times for ten times the length.
        assert!(many <= few + 20, "{few} for 100 ids, {many} for 1,000");
    }
}
