//! Vectors of any processor: arrays, which the compiler turns into the vectors that the target has.

use super::{Isa, Simd, table};

/// `L` floats in tiles of at most `R` rows.
pub(super) struct Portable<const L: usize, const R: usize>;

impl<const L: usize, const R: usize> Simd for Portable<L, R> {
    type V = [f32; L];
    const LANES: usize = L;
    const ROWS: usize = R;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; L] {
        // SAFETY: the caller's; an array of floats is as aligned as a float.
        unsafe { from.cast::<[f32; L]>().read() }
    }

    #[inline(always)]
    unsafe fn store(into: *mut f32, v: [f32; L]) {
        // SAFETY: as in `load`.
        unsafe { into.cast::<[f32; L]>().write(v) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; L] {
        [x; L]
    }

    #[inline(always)]
    unsafe fn fma(a: [f32; L], b: [f32; L], c: [f32; L]) -> [f32; L] {
        // In two where the target cannot do it in one: `mul_add` would call a function per float.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }

    #[inline(always)]
    unsafe fn add(a: [f32; L], b: [f32; L]) -> [f32; L] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn relu(v: [f32; L]) -> [f32; L] {
        v.map(|x| if x > 0.0 { x } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn sum(v: [f32; L]) -> f32 {
        v.into_iter().sum()
    }

    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
}

table!(TABLE, Isa::Portable, Portable<4, 4>);
