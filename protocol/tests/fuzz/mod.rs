//! Generated input for decoders: for as long as `UNIMODEL_FUZZ_SECONDS` says, and 256 cases at least. The tests of the model
//! server have it too.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

/// Asks the test of inputs until the time is over.
pub(crate) fn fuzz<S: Strategy>(input: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = std::env::var("UNIMODEL_FUZZ_SECONDS").map_or(0, |text| text.parse().expect("a number of seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        // Each time from other random numbers.
        let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
        if let Err(failure) = runner.run(&input, &test) {
            panic!("{failure}\n{runner}");
        }
        if Instant::now() >= until {
            return;
        }
    }
}
