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
    1.0 / (vector.iter().map(|x| x * x).sum::<f32>() + EPSILON).sqrt()
}
