//! What all programs of this benchmark do alike.

use std::time::{Duration, Instant};

/// How long threads run for a rate.
pub(crate) const RATE: Duration = Duration::from_millis(400);

/// Calls a second of `workers` threads together.
pub(crate) fn rate<F: FnMut() -> Result<(), String>>(
    workers: usize,
    caller: impl Fn(usize) -> F + Sync,
) -> Result<f64, String> {
    let calls: Result<Vec<usize>, String> = std::thread::scope(|scope| {
        let end = Instant::now() + RATE;
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let caller = &caller;
                scope.spawn(move || {
                    let (mut call, mut calls) = (caller(worker), 0);
                    while Instant::now() < end {
                        call()?;
                        calls += 1;
                    }
                    Ok(calls)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().map_err(|_| "a worker panicked".to_owned())?).collect()
    });
    Ok(calls?.into_iter().sum::<usize>() as f64 / RATE.as_secs_f64())
}

/// Numbers that look random, within ±1 over the square root of `fan_in`.
pub(crate) fn values(count: usize, fan_in: usize) -> Vec<f32> {
    let (mut seed, scale) = (count as u32, 1.0 / (fan_in as f32).sqrt());
    (0..count)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}
