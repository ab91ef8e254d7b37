//! Every kernel of every instruction set that this machine has, and the portable ones in the shape of each that it may
//! not have, against plain loops in double precision.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::portable::Portable;
use super::*;

/// Tiles, panels and edges as AVX-512 has them, on any machine.
mod wide {
    use super::*;
    table!(TABLE, Isa::Portable, Portable<16, 12>);
}

/// Tiles, panels and edges as AVX2 has them, on any machine.
mod middle {
    use super::*;
    table!(TABLE, Isa::Portable, Portable<8, 6>);
}

fn all() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::of).chain([Kernels(&wide::TABLE), Kernels(&middle::TABLE)])
}

/// The bound of the rounding errors of a sum of `n` products whose magnitudes sum to `magnitude` (Higham 2002, 3.1), with
/// room for the last addition and the oracle's own rounding to single precision.
fn close(got: f32, expected: f64, n: usize, magnitude: f64) -> bool {
    (f64::from(got) - expected).abs()
        <= (n as f64 + 3.0) * f64::from(f32::EPSILON) * (magnitude + f64::from(f32::MIN_POSITIVE))
}

/// The sum of `a·b` and `more`, and the sum of magnitudes.
fn dot(a: impl Iterator<Item = (f32, f32)>, more: f32) -> (f64, f64) {
    let more = f64::from(more);
    a.fold((more, more.abs()), |(sum, magnitude), (a, b)| {
        let product = f64::from(a) * f64::from(b);
        (sum + product, magnitude + product.abs())
    })
}

fn floats(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(prop_oneof![8 => -2f32..2.0, 1 => Just(0.0), 1 => -1e6f32..1e6], n)
}

/// Rows of a matrix, the numbers of those that are taken (or all), and the padding between them.
#[derive(Clone, Debug)]
struct Matrix {
    data: Vec<f32>,
    stride: usize,
    width: usize,
    count: usize,
    ids: Option<Vec<u32>>,
}

impl Matrix {
    fn rows(&self) -> Rows<'_> {
        match &self.ids {
            Some(ids) => Rows::gathered(&self.data, self.stride, self.width, ids),
            None => Rows::dense(&self.data, self.stride, self.width, self.count),
        }
    }

    fn row(&self, r: usize) -> &[f32] {
        let row = self.ids.as_ref().map_or(r, |ids| ids[r] as usize);
        &self.data[row * self.stride..][..self.width]
    }
}

fn matrix(width: usize, most: usize) -> impl Strategy<Value = Matrix> {
    (0..3usize, 0..=most, any::<bool>()).prop_flat_map(move |(padding, count, gathered)| {
        let stride = width + padding;
        // The last row ends where the data do: a kernel that read beyond it would read what is not there.
        let length = if count == 0 { 0 } else { (count - 1) * stride + width };
        let ids = proptest::collection::vec(0..count.max(1) as u32, if count == 0 { 0 } else { count + 3 });
        (floats(length), ids).prop_map(move |(data, ids)| {
            let (count, ids) = if gathered { (ids.len(), Some(ids)) } else { (count, None) };
            Matrix { data, stride, width, count, ids }
        })
    })
}

/// Sizes around the edges of tiles, panels and vectors.
fn size(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![0..=most, (0..=most / 8).prop_map(|n| n * 8), Just(1)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 32 } else { 512 }))]

    #[test]
    fn linear_is_the_product_with_bias_and_activation(
        (x, outputs, weights, bias) in (size(70), size(100)).prop_flat_map(|(inputs, outputs)| {
            (matrix(inputs, 30), Just(outputs), floats(inputs * outputs), floats(outputs))
        }),
        relu: bool,
    ) {
        let activation = if relu { Activation::Relu } else { Activation::Identity };
        for kernels in all() {
            let packed = Packed::new(kernels, &weights, x.width, outputs);
            let mut out = vec![f32::NAN; x.count * outputs];
            kernels.linear(x.rows(), &packed, &bias, activation, &mut out);
            for r in 0..x.count {
                for c in 0..outputs {
                    let column = (0..x.width).map(|i| (x.row(r)[i], weights[i * outputs + c]));
                    let (sum, magnitude) = dot(column, bias[c]);
                    let expected = if relu { sum.max(0.0) } else { sum };
                    let got = out[r * outputs + c];
                    prop_assert!(close(got, expected, x.width + 1, magnitude), "{kernels:?} {r} {c}: {got} {expected}");
                }
            }
            // A row alone is the same to the last bit.
            for r in 0..x.count {
                let mut alone = vec![f32::NAN; outputs];
                kernels.linear(x.rows().part(r, 1), &packed, &bias, activation, &mut alone);
                prop_assert_eq!(&alone, &out[r * outputs..][..outputs]);
            }
        }
    }

    #[test]
    fn dots_are_added(
        (x, query, out) in size(130).prop_flat_map(|width| (matrix(width, 30), floats(width), floats(33))),
    ) {
        for kernels in all() {
            let mut got = out[..x.count].to_vec();
            kernels.add_dots(&query, x.rows(), &mut got);
            for r in 0..x.count {
                let (expected, magnitude) = dot(query.iter().copied().zip(x.row(r).iter().copied()), out[r]);
                prop_assert!(close(got[r], expected, x.width + 1, magnitude), "{kernels:?} {r}: {} {expected}", got[r]);
                let mut alone = [out[r]];
                kernels.add_dots(&query, x.rows().part(r, 1), &mut alone);
                prop_assert_eq!(alone[0], got[r]);
            }
        }
    }

    #[test]
    fn a_weighted_sum_is_added(
        (x, weights, out) in size(130).prop_flat_map(|width| (matrix(width, 20), floats(23), floats(width))),
    ) {
        for kernels in all() {
            let mut got = out.clone();
            kernels.add_weighted_sum(x.rows(), &weights[..x.count], &mut got);
            for c in 0..x.width {
                let (expected, magnitude) = dot((0..x.count).map(|r| (weights[r], x.row(r)[c])), out[c]);
                prop_assert!(close(got[c], expected, x.count + 1, magnitude), "{kernels:?} {c}: {} {expected}", got[c]);
            }
        }
    }

    #[test]
    fn halves_are_added(
        (x, half) in size(100).prop_flat_map(|width| (matrix(width, 20), floats(width))),
    ) {
        for kernels in all() {
            let mut out = vec![f32::NAN; x.count * x.width];
            kernels.add_relu(x.rows(), &half, &mut out);
            let expected: Vec<f32> =
                (0..x.count).flat_map(|r| x.row(r).iter().zip(&half).map(|(x, h)| (x + h).max(0.0))).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_folded_product_is_the_product(
        (x, outputs, item, product, context) in (size(40), size(70)).prop_flat_map(|(inputs, outputs)| {
            let weights = || floats(inputs * outputs);
            (matrix(inputs, 12), Just(outputs), weights(), weights(), floats(inputs))
        }),
    ) {
        for kernels in all() {
            let pack = |weights: &[f32]| Packed::new(kernels, weights, x.width, outputs);
            let mut folded = Packed::empty(kernels);
            Packed::fold(kernels, &pack(&item), &pack(&product), &context, &mut folded);
            let mut out = vec![f32::NAN; x.count * outputs];
            kernels.linear(x.rows(), &folded, &vec![0.0; outputs], Activation::Identity, &mut out);
            for r in 0..x.count {
                for c in 0..outputs {
                    let (mut expected, mut magnitude) = (0f64, 0f64);
                    for i in 0..x.width {
                        let (v, u) = (f64::from(x.row(r)[i]), f64::from(context[i]));
                        let terms = [v * f64::from(item[i * outputs + c]), v * u * f64::from(product[i * outputs + c])];
                        expected += terms[0] + terms[1];
                        magnitude += terms[0].abs() + terms[1].abs();
                    }
                    let got = out[r * outputs + c];
                    prop_assert!(close(got, expected, 2 * x.width + 2, magnitude), "{kernels:?}: {got} {expected}");
                }
            }
        }
    }
}

#[test]
fn the_fastest_that_the_machine_has_is_chosen() {
    for isa in Isa::ALL.into_iter().filter(|isa| Kernels::of(*isa).is_none()) {
        println!("the tests of this module skip {}: this machine has it not", isa.name());
    }
    let best = Isa::ALL.into_iter().rfind(|isa| Kernels::of(*isa).is_some());
    assert_eq!(Some(Kernels::detect().isa()), best);
    assert_eq!(Kernels::of(Isa::Portable).unwrap().isa(), Isa::Portable);
}

#[test]
#[should_panic(expected = "packed for other kernels")]
fn weights_of_other_kernels_are_refused() {
    let packed = Packed::new(Kernels(&wide::TABLE), &[1.0; 4], 2, 2);
    let portable = Kernels::of(Isa::Portable).unwrap();
    portable.linear(Rows::dense(&[1.0; 2], 2, 2, 1), &packed, &[0.0; 2], Activation::Identity, &mut [0.0; 2]);
}

#[test]
#[should_panic]
fn rows_beyond_the_data_are_refused() {
    Rows::gathered(&[0.0; 8], 4, 4, &[0, 2]);
}

#[test]
#[should_panic(expected = "rows 1+2 of 2")]
fn parts_beyond_the_rows_are_refused() {
    Rows::dense(&[0.0; 8], 4, 4, 2).part(1, 2);
}
