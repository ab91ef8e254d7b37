//! Vectors as slices, where a kernel would not pay.

/// Guards square roots and divisions by a norm, as in the network.
pub(super) const EPSILON: f32 = 1e-6;

/// `sum += more`
pub(super) fn add(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// `sum += scale · more`
pub(super) fn add_scaled(sum: &mut [f32], scale: f32, more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += scale * more);
}

/// What gives a vector a length of one.
pub(super) fn unit_scale(vector: &[f32]) -> f32 {
    // Many sums at a time: in one sum each addition would wait for the one before.
    let mut sums = [0.0; 16];
    let (chunks, rest) = vector.as_chunks::<16>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x * x);
    }
    let squares = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
    1.0 / (squares + EPSILON).sqrt()
}
