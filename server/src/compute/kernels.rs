//! The arithmetic, for the instruction set that the processor has: the one module with `unsafe` code.
//!
//! Each kernel is written once over [`Simd`], a vector of a fixed number of floats, and compiled once per instruction
//! set inside a function that enables it. A [`Kernels`] is a table of those functions.
//!
//! # Safety
//! Three invariants carry all `unsafe` blocks:
//! 1. A table with an instruction set beyond the target's own is handed out only by [`Kernels::of`], after the processor
//!    was asked for it.
//! 2. [`Rows`] can only be built over rows that lie inside their slice.
//! 3. The methods of [`Kernels`] compare all lengths before they make pointers of slices; a kernel reads and writes
//!    only `rows`, `width`, `inputs` and `outputs` as far as the methods have checked. Loads and stores need no
//!    alignment: aligned data are faster, not safer.
//!
//! # Order of the sums
//! An output is summed in the same order however many rows are computed together, so that the score of an item does not
//! depend on the items that it is asked with. Between instruction sets the order of a [`Kernels::add_dots`] differs.
#![allow(unsafe_code)]

use super::packed::Packed;

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

/// An instruction set that kernels exist for, from the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every processor of the target has.
    Portable,
    /// 8 floats at a time, multiplied and added in one.
    Avx2,
    /// 16 floats at a time.
    Avx512,
}

impl Isa {
    /// All, from the slowest.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// As logs and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// What follows a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
}

/// Rows of a matrix, all of them or those of a list, in place.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    width: usize,
    count: usize,
    /// Which rows; without, the first `count`.
    ids: Option<&'a [u32]>,
}

impl<'a> Rows<'a> {
    /// `count` rows, each the first `width` of `stride` floats.
    ///
    /// # Panics
    /// If the data end before the last row does.
    pub fn dense(data: &'a [f32], stride: usize, width: usize, count: usize) -> Self {
        assert!(width <= stride, "rows of {width} floats, {stride} apart");
        assert!(count == 0 || count.saturating_sub(1).saturating_mul(stride).saturating_add(width) <= data.len());
        Self { data, stride, width, count, ids: None }
    }

    /// Of such rows, those numbers `ids`.
    ///
    /// # Panics
    /// If the data end before one of the rows does.
    pub fn gathered(data: &'a [f32], stride: usize, width: usize, ids: &'a [u32]) -> Self {
        let last = ids.iter().fold(0, |last, id| last.max(*id)) as usize;
        Self::dense(data, stride, width, if ids.is_empty() { 0 } else { last + 1 });
        Self { data, stride, width, count: ids.len(), ids: Some(ids) }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How wide.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `count` of them from number `from` on.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn part(&self, from: usize, count: usize) -> Self {
        assert!(from <= self.count && count <= self.count - from, "rows {from}+{count} of {}", self.count);
        match self.ids {
            Some(ids) => Self { count, ids: Some(&ids[from..from + count]), ..*self },
            None if count == 0 => Self { count, data: &[], ..*self },
            None => Self { count, data: &self.data[from * self.stride..], ..*self },
        }
    }

    fn raw(&self) -> RawRows {
        RawRows { data: self.data.as_ptr(), stride: self.stride, ids: self.ids.map(<[u32]>::as_ptr) }
    }
}

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(&'static Table);

impl PartialEq for Kernels {
    fn eq(&self, other: &Self) -> bool {
        self.0.isa == other.0.isa
    }
}

impl Kernels {
    /// The fastest that the processor runs.
    pub fn detect() -> Self {
        Isa::ALL.into_iter().rev().find_map(Self::of).unwrap_or(Self(&portable::TABLE))
    }

    /// Those of an instruction set; `None` if the processor has it not.
    pub fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => Some(Self(&portable::TABLE)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(&x86::AVX2))
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f").then_some(Self(&x86::AVX512)),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        }
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.0.isa
    }

    /// How many outputs are computed at a time: columns of a panel of [`Packed`].
    pub fn panel(self) -> usize {
        self.0.panel
    }

    /// `out[r] = activation(x[r] · weights + bias)`, with `out` of `[x.count, outputs]`.
    ///
    /// # Panics
    /// If a width or length does not fit the weights, or they are packed for other kernels.
    pub fn linear(self, x: Rows, weights: &Packed, bias: &[f32], activation: Activation, out: &mut [f32]) {
        let (inputs, outputs) = (weights.inputs(), weights.outputs());
        assert_eq!(weights.panel(), self.0.panel, "weights packed for other kernels");
        assert_eq!(weights.data().len(), inputs * outputs.next_multiple_of(self.0.panel));
        assert_eq!(x.width, inputs, "width of the rows");
        assert_eq!(bias.len(), outputs, "length of the bias");
        assert_eq!(out.len(), x.count * outputs, "length of the output");
        let relu = activation == Activation::Relu;
        let (rows, weights, bias, out) = (x.count, weights.data().as_ptr(), bias.as_ptr(), out.as_mut_ptr());
        // SAFETY: lengths compared above, rows by `Rows`, the instruction set by `Kernels::of`.
        unsafe { (self.0.linear)(&Linear { x: x.raw(), rows, inputs, weights, outputs, bias, relu, out }) }
    }

    /// `out[r] += query · x[r]`.
    ///
    /// # Panics
    /// If a width or length does not fit.
    pub fn add_dots(self, query: &[f32], x: Rows, out: &mut [f32]) {
        assert_eq!(query.len(), x.width, "length of the query");
        assert_eq!(out.len(), x.count, "length of the output");
        // SAFETY: as in `linear`.
        unsafe { (self.0.add_dots)(query.as_ptr(), x.raw(), x.count, x.width, out.as_mut_ptr()) }
    }

    /// `out += Σ weights[r] · x[r]`.
    ///
    /// # Panics
    /// If a width or length does not fit.
    pub fn add_weighted_sum(self, x: Rows, weights: &[f32], out: &mut [f32]) {
        assert_eq!(weights.len(), x.count, "number of weights");
        assert_eq!(out.len(), x.width, "length of the output");
        // SAFETY: as in `linear`.
        unsafe { (self.0.add_weighted_sum)(x.raw(), x.count, x.width, weights.as_ptr(), out.as_mut_ptr()) }
    }

    /// `out[r] = max(x[r] + half, 0)`, with `out` of `[x.count, x.width]`.
    ///
    /// # Panics
    /// If a width or length does not fit.
    pub fn add_relu(self, x: Rows, half: &[f32], out: &mut [f32]) {
        assert_eq!(half.len(), x.width, "length of the addend");
        assert_eq!(out.len(), x.count * x.width, "length of the output");
        // SAFETY: as in `linear`.
        unsafe { (self.0.add_relu)(x.raw(), x.count, x.width, half.as_ptr(), out.as_mut_ptr()) }
    }

    /// [`Packed::fold`] into the data of a packed matrix.
    pub(super) fn fold(self, item: &Packed, product: &Packed, context: &[f32], out: &mut [f32]) {
        let (inputs, outputs, panel) = (item.inputs(), item.outputs(), item.panel());
        assert_eq!((inputs, outputs, panel), (product.inputs(), product.outputs(), product.panel()));
        assert_eq!(panel, self.0.panel, "weights packed for other kernels");
        assert_eq!(context.len(), inputs, "length of the context");
        let panels = outputs.div_ceil(panel);
        let length = inputs * panels * panel;
        assert_eq!((item.data().len(), product.data().len()), (length, length));
        assert_eq!(out.len(), length);
        let (item, product) = (item.data().as_ptr(), product.data().as_ptr());
        // SAFETY: as in `linear`.
        unsafe { (self.0.fold)(item, product, context.as_ptr(), inputs, panels, out.as_mut_ptr()) }
    }
}

/// The functions of an instruction set; unsafe to call as said in the module.
#[derive(Debug)]
struct Table {
    isa: Isa,
    panel: usize,
    linear: unsafe fn(&Linear),
    add_dots: unsafe fn(*const f32, RawRows, usize, usize, *mut f32),
    add_weighted_sum: unsafe fn(RawRows, usize, usize, *const f32, *mut f32),
    add_relu: unsafe fn(RawRows, usize, usize, *const f32, *mut f32),
    fold: unsafe fn(*const f32, *const f32, *const f32, usize, usize, *mut f32),
}

/// [`Rows`] without their lengths.
#[derive(Clone, Copy)]
struct RawRows {
    data: *const f32,
    stride: usize,
    ids: Option<*const u32>,
}

impl RawRows {
    /// Where a row begins.
    #[inline(always)]
    unsafe fn at(&self, row: usize) -> *const f32 {
        // SAFETY: the caller keeps below the count of the `Rows` that these are.
        unsafe {
            let row = match self.ids {
                Some(ids) => *ids.add(row) as usize,
                None => row,
            };
            self.data.add(row * self.stride)
        }
    }
}

/// Arguments of [`Kernels::linear`].
struct Linear {
    x: RawRows,
    rows: usize,
    inputs: usize,
    weights: *const f32,
    outputs: usize,
    bias: *const f32,
    relu: bool,
    out: *mut f32,
}

/// A vector of floats. All functions need the instruction set of the implementation, and pointers to as many floats as
/// they read or write; they are inlined into functions that enable that set.
trait Simd {
    /// The vector.
    type V: Copy;
    /// Its floats, at most 16.
    const LANES: usize;
    /// Most rows of a tile, so that the accumulators, two vectors of weights and one float fit the registers.
    const ROWS: usize;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(into: *mut f32, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    /// `a · b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `max(v, 0)`, 0 for NaN.
    unsafe fn relu(v: Self::V) -> Self::V;
    /// The sum of all floats.
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn prefetch(from: *const f32);
}

/// Makes the [`Table`] of a [`Simd`].
macro_rules! table {
    ($name:ident, $isa:expr, $simd:ty $(, #[$feature:meta])?) => {
        pub(super) static $name: super::Table = {
            use super::{Linear, RawRows};
            $(#[$feature])?
            unsafe fn linear(args: &Linear) {
                // SAFETY: the caller's; so below.
                unsafe { super::linear::<$simd>(args) }
            }
            $(#[$feature])?
            unsafe fn add_dots(query: *const f32, x: RawRows, rows: usize, width: usize, out: *mut f32) {
                unsafe { super::add_dots::<$simd>(query, x, rows, width, out) }
            }
            $(#[$feature])?
            unsafe fn add_weighted_sum(x: RawRows, rows: usize, width: usize, weights: *const f32, out: *mut f32) {
                unsafe { super::add_weighted_sum::<$simd>(x, rows, width, weights, out) }
            }
            $(#[$feature])?
            unsafe fn add_relu(x: RawRows, rows: usize, width: usize, half: *const f32, out: *mut f32) {
                unsafe { super::add_relu::<$simd>(x, rows, width, half, out) }
            }
            $(#[$feature])?
            unsafe fn fold(
                item: *const f32,
                product: *const f32,
                context: *const f32,
                inputs: usize,
                panels: usize,
                out: *mut f32,
            ) {
                unsafe { super::fold::<$simd>(item, product, context, inputs, panels, out) }
            }
            let panel = 2 * <$simd as super::Simd>::LANES;
            super::Table { isa: $isa, panel, linear, add_dots, add_weighted_sum, add_relu, fold }
        };
    };
}
use table;

/// [`Kernels::linear`]: panel by panel, and in a panel tile by tile, so that a panel's weights stay in the first cache
/// while the rows pass by.
#[inline(always)]
unsafe fn linear<S: Simd>(a: &Linear) {
    let panels = a.outputs.div_ceil(2 * S::LANES);
    // With one or two rows a panel's two vectors are too few to hide the latency of the multiplications.
    let together = match a.rows {
        0 => return,
        1 => 4,
        2 => 2,
        _ => 1,
    };
    // Tiles of even height: 8 rows are 4 and 4 rather than 6 and 2.
    let tiles = a.rows.div_ceil(S::ROWS);
    let (height, taller) = (a.rows / tiles, a.rows % tiles);
    let mut panel = 0;
    while panel < panels {
        let together = if panel + together <= panels { together } else { 1 };
        let mut row = 0;
        for index in 0..tiles {
            let height = height + usize::from(index < taller);
            // SAFETY: `panel + together` does not pass the last panel, nor `row + height` the last row.
            unsafe {
                match (together, height) {
                    (4, _) => tile::<S, 1, 4>(a, row, panel),
                    (2, _) => tile::<S, 2, 2>(a, row, panel),
                    (_, 1) => tile::<S, 1, 1>(a, row, panel),
                    (_, 2) => tile::<S, 2, 1>(a, row, panel),
                    (_, 3) => tile::<S, 3, 1>(a, row, panel),
                    (_, 4) => tile::<S, 4, 1>(a, row, panel),
                    (_, 5) => tile::<S, 5, 1>(a, row, panel),
                    (_, 6) => tile::<S, 6, 1>(a, row, panel),
                    (_, 7) => tile::<S, 7, 1>(a, row, panel),
                    (_, 8) => tile::<S, 8, 1>(a, row, panel),
                    (_, 9) => tile::<S, 9, 1>(a, row, panel),
                    (_, 10) => tile::<S, 10, 1>(a, row, panel),
                    (_, 11) => tile::<S, 11, 1>(a, row, panel),
                    _ => tile::<S, 12, 1>(a, row, panel),
                }
            }
            row += height;
        }
        panel += together;
    }
}

/// `R` rows by `P` panels of the output.
#[allow(clippy::needless_range_loop, reason = "the sums are a block of registers, walked in the order of the loads")]
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const P: usize>(a: &Linear, row: usize, panel: usize) {
    if R > S::ROWS {
        return;
    }
    let width = 2 * S::LANES;
    let column = |p: usize, half: usize| (panel + p) * width + half * S::LANES;
    // SAFETY: the caller's rows and panels exist; columns that the last panel has beyond the outputs are masked off.
    unsafe {
        let x: [*const f32; R] = std::array::from_fn(|r| a.x.at(row + r));
        let mut sums = [[[S::splat(0.0); 2]; P]; R];
        for p in 0..P {
            for half in 0..2 {
                let bias = load_up_to::<S>(a.bias, column(p, half), a.outputs);
                for row in &mut sums {
                    row[p][half] = bias;
                }
            }
        }
        let weights = a.weights.add(panel * a.inputs * width);
        for i in 0..a.inputs {
            for p in 0..P {
                let weights = weights.add((p * a.inputs + i) * width);
                let (left, right) = (S::load(weights), S::load(weights.add(S::LANES)));
                for r in 0..R {
                    let x = S::splat(*x[r].add(i));
                    sums[r][p][0] = S::fma(x, left, sums[r][p][0]);
                    sums[r][p][1] = S::fma(x, right, sums[r][p][1]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = a.out.add((row + r) * a.outputs);
            for (p, sums) in sums.iter().enumerate() {
                for (half, &sum) in sums.iter().enumerate() {
                    let sum = if a.relu { S::relu(sum) } else { sum };
                    store_up_to::<S>(out, column(p, half), a.outputs, sum);
                }
            }
        }
    }
}

/// A vector from `from[at..]`, zero from `end` on.
#[inline(always)]
unsafe fn load_up_to<S: Simd>(from: *const f32, at: usize, end: usize) -> S::V {
    // SAFETY: reads below `end` only.
    unsafe {
        if at + S::LANES <= end {
            return S::load(from.add(at));
        }
        let mut some = [0f32; 16];
        if at < end {
            std::ptr::copy_nonoverlapping(from.add(at), some.as_mut_ptr(), end - at);
        }
        S::load(some.as_ptr())
    }
}

/// A vector into `into[at..]`, what would come at `end` or after left off.
#[inline(always)]
unsafe fn store_up_to<S: Simd>(into: *mut f32, at: usize, end: usize, v: S::V) {
    // SAFETY: writes below `end` only.
    unsafe {
        if at + S::LANES <= end {
            return S::store(into.add(at), v);
        }
        if at < end {
            let mut some = [0f32; 16];
            S::store(some.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(some.as_ptr(), into.add(at), end - at);
        }
    }
}

/// [`Kernels::add_dots`], four rows at a time: they share the loads of the query and hide each other's latency.
#[inline(always)]
unsafe fn add_dots<S: Simd>(query: *const f32, x: RawRows, rows: usize, width: usize, out: *mut f32) {
    const TOGETHER: usize = 4;
    /// Rows of a list lie anywhere: the processor has to be told where the next ones do.
    const AHEAD: usize = 8;
    let mut row = 0;
    // SAFETY: `row + TOGETHER` does not pass the last row.
    unsafe {
        while row + TOGETHER <= rows {
            if x.ids.is_some() && row + AHEAD + TOGETHER <= rows {
                for r in 0..TOGETHER {
                    let next = x.at(row + AHEAD + r);
                    for line in (0..width).step_by(16) {
                        S::prefetch(next.add(line));
                    }
                }
            }
            dots::<S, TOGETHER>(query, &x, row, width, out);
            row += TOGETHER;
        }
        while row < rows {
            dots::<S, 1>(query, &x, row, width, out);
            row += 1;
        }
    }
}

#[allow(clippy::needless_range_loop, reason = "the sums are a block of registers, walked in the order of the loads")]
#[inline(always)]
unsafe fn dots<S: Simd, const R: usize>(query: *const f32, x: &RawRows, row: usize, width: usize, out: *mut f32) {
    let step = 2 * S::LANES;
    // SAFETY: the caller's rows exist, and no load passes `width`.
    unsafe {
        let x: [*const f32; R] = std::array::from_fn(|r| x.at(row + r));
        let mut sums = [[S::splat(0.0); 2]; R];
        let mut i = 0;
        while i + step <= width {
            for half in 0..2 {
                let at = i + half * S::LANES;
                let query = S::load(query.add(at));
                for r in 0..R {
                    sums[r][half] = S::fma(query, S::load(x[r].add(at)), sums[r][half]);
                }
            }
            i += step;
        }
        for r in 0..R {
            let mut sum = S::sum(S::add(sums[r][0], sums[r][1]));
            for i in i..width {
                sum += *query.add(i) * *x[r].add(i);
            }
            *out.add(row + r) += sum;
        }
    }
}

/// [`Kernels::add_weighted_sum`], a strip of columns at a time, so that the sums stay in registers.
#[inline(always)]
unsafe fn add_weighted_sum<S: Simd>(x: RawRows, rows: usize, width: usize, weights: *const f32, out: *mut f32) {
    const VECTORS: usize = 4;
    let mut column = 0;
    // SAFETY: no load or store passes `width`.
    unsafe {
        while column + VECTORS * S::LANES <= width {
            let mut sums: [S::V; VECTORS] = std::array::from_fn(|v| S::load(out.add(column + v * S::LANES)));
            for row in 0..rows {
                let (weight, x) = (S::splat(*weights.add(row)), x.at(row).add(column));
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::fma(weight, S::load(x.add(v * S::LANES)), *sum);
                }
            }
            for (v, sum) in sums.into_iter().enumerate() {
                S::store(out.add(column + v * S::LANES), sum);
            }
            column += VECTORS * S::LANES;
        }
        while column < width {
            let mut sum = load_up_to::<S>(out, column, width);
            for row in 0..rows {
                sum = S::fma(S::splat(*weights.add(row)), load_up_to::<S>(x.at(row), column, width), sum);
            }
            store_up_to::<S>(out, column, width, sum);
            column += S::LANES;
        }
    }
}

/// [`Kernels::add_relu`]. There is so little to compute that it waits for memory: it asks for rows before it needs them.
#[inline(always)]
unsafe fn add_relu<S: Simd>(x: RawRows, rows: usize, width: usize, half: *const f32, out: *mut f32) {
    const AHEAD: usize = 4;
    for row in 0..rows {
        // SAFETY: no load or store passes `width`.
        unsafe {
            let next = x.at((row + AHEAD).min(rows - 1));
            let (x, out) = (x.at(row), out.add(row * width));
            let mut column = 0;
            while column < width {
                S::prefetch(next.add(column));
                let sum = S::add(load_up_to::<S>(x, column, width), load_up_to::<S>(half, column, width));
                store_up_to::<S>(out, column, width, S::relu(sum));
                column += S::LANES;
            }
        }
    }
}

/// [`Kernels::fold`].
#[inline(always)]
unsafe fn fold<S: Simd>(
    item: *const f32,
    product: *const f32,
    context: *const f32,
    inputs: usize,
    panels: usize,
    out: *mut f32,
) {
    let width = 2 * S::LANES;
    for panel in 0..panels {
        for input in 0..inputs {
            // SAFETY: a panel holds `inputs` times `width` weights.
            unsafe {
                let context = S::splat(*context.add(input));
                for at in [0, S::LANES] {
                    let at = (panel * inputs + input) * width + at;
                    S::store(out.add(at), S::fma(context, S::load(product.add(at)), S::load(item.add(at))));
                }
            }
        }
    }
}
