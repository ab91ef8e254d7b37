//! A weighted sum of table rows per output row (an embedding bag), differentiable in the table and in the weights.
//!
//! It is the one operation through which every sparse element enters the network: a masked element is an empty bag.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

/// Which rows are summed where: output row `b` sums the table rows `indices[offsets[b]..offsets[b + 1]]`.
#[derive(Clone, Debug)]
pub struct Bag {
    indices: Arc<Vec<u32>>,
    offsets: Arc<Vec<u32>>,
}

impl Bag {
    /// One bag per list.
    pub fn new<L: IntoIterator<Item = u32>>(lists: impl IntoIterator<Item = L>) -> Self {
        let (mut indices, mut offsets) = (Vec::new(), vec![0]);
        for list in lists {
            indices.extend(list);
            offsets.push(indices.len() as u32);
        }
        Self { indices: Arc::new(indices), offsets: Arc::new(offsets) }
    }

    /// The table rows of all bags, one bag after the other.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// How many table rows are summed in all.
    pub fn entries(&self) -> usize {
        self.indices.len()
    }

    /// How many bags there are.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The sums, `[rows, width]`, of a table `[n, width]` under weights `[entries]`. CPU only: it trains and it is the
    /// oracle; a server that runs elsewhere has its own.
    pub fn sum(&self, table: &Tensor, weights: &Tensor) -> Result<Tensor> {
        if self.entries() == 0 {
            return Tensor::zeros((self.rows(), table.dim(1)?), table.dtype(), table.device());
        }
        table.contiguous()?.apply_op2(&weights.contiguous()?, self.clone())
    }

    /// The sums under weights of one.
    pub fn plain_sum(&self, table: &Tensor) -> Result<Tensor> {
        let ones = Tensor::ones(self.entries(), table.dtype(), table.device())?;
        self.sum(table, &ones)
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// Adds the gradient of the table from some of the rows.
    fn scatter(&self, rows: std::ops::Range<usize>, weights: &[f32], grad: &[f32], width: usize, table: &mut [f32]) {
        for row in rows {
            let g = &grad[row * width..][..width];
            for entry in self.range(row) {
                let into = &mut table[self.indices[entry] as usize * width..][..width];
                let weight = weights[entry];
                into.iter_mut().zip(g).for_each(|(into, g)| *into += weight * g);
            }
        }
    }
}

/// A dot product in eight partial sums, which a compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&all[from..to]),
        None => Err(candle_core::Error::Msg("embedding bag: arguments must be contiguous".into())),
    }
}

impl CustomOp2 for Bag {
    fn name(&self) -> &'static str {
        "embedding-bag"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (table, weights) = (slice(s1, l1)?, slice(s2, l2)?);
        let width = l1.dims()[1];
        let mut out = vec![0f32; self.rows() * width];
        out.par_chunks_mut(width).with_min_len(16).enumerate().for_each(|(row, sum)| {
            for entry in self.range(row) {
                let weight = weights[entry];
                let from = &table[self.indices[entry] as usize * width..][..width];
                sum.iter_mut().zip(from).for_each(|(s, x)| *s += weight * x);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((self.rows(), width))))
    }

    fn bwd(
        &self,
        table: &Tensor,
        weights: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (n, width) = table.dims2()?;
        let (gs, gl) = grad.storage_and_layout();
        let (ts, tl) = table.storage_and_layout();
        let (ws, wl) = weights.storage_and_layout();
        let (Storage::Cpu(gs), Storage::Cpu(ts), Storage::Cpu(ws)) = (&*gs, &*ts, &*ws) else {
            return Err(candle_core::Error::Msg("embedding bag: trains on the CPU only".into()));
        };
        let (g, t, w) = (slice(gs, gl)?, slice(ts, tl)?, slice(ws, wl)?);
        // Two halves whatever the number of threads, so that sums round the same everywhere.
        let half = self.rows() / 2;
        let (mut to_table, other) = rayon::join(
            || {
                let mut first = vec![0f32; n * width];
                self.scatter(0..half, w, g, width, &mut first);
                first
            },
            || {
                let mut second = vec![0f32; n * width];
                self.scatter(half..self.rows(), w, g, width, &mut second);
                second
            },
        );
        to_table.par_iter_mut().with_min_len(1 << 14).zip(&other).for_each(|(a, b)| *a += b);
        let to_weights: Vec<f32> = (0..self.rows())
            .into_par_iter()
            .with_min_len(16)
            .flat_map_iter(|row| {
                let g = &g[row * width..][..width];
                self.range(row).map(move |entry| dot(&t[self.indices[entry] as usize * width..][..width], g))
            })
            .collect();
        Ok((
            Some(Tensor::from_vec(to_table, (n, width), table.device())?),
            Some(Tensor::from_vec(to_weights, self.entries(), table.device())?),
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_dense_product() {
        let table = Var::from_vec((0..8).map(|x| x as f32 * 0.3 - 1.0).collect(), (4, 2), &Device::Cpu).unwrap();
        let weights = Var::from_vec(vec![0.5f32, 2.0, -1.0, 0.25], 4, &Device::Cpu).unwrap();
        let bag = Bag::new([vec![1, 3], vec![], vec![3, 0]]);
        // The same as a dense [3, 4] matrix of the weights times the table.
        let cells = |w: &Tensor, i: usize| w.narrow(0, i, 1).unwrap();
        let zero = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let dense = Tensor::cat(
            &[
                &zero,
                &cells(&weights, 0),
                &zero,
                &cells(&weights, 1),
                &zero,
                &zero,
                &zero,
                &zero,
                &cells(&weights, 3),
                &zero,
                &zero,
                &cells(&weights, 2),
            ],
            0,
        )
        .unwrap()
        .reshape((3, 4))
        .unwrap();
        let expected = dense.matmul(&table).unwrap();
        let got = bag.sum(&table, &weights).unwrap();
        assert_eq!(got.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
        let (a, b) = (got.sqr().unwrap().backward().unwrap(), expected.sqr().unwrap().backward().unwrap());
        for var in [&table, &weights] {
            let (a, b) = (a.get(var).unwrap().flatten_all().unwrap(), b.get(var).unwrap().flatten_all().unwrap());
            let gap = (a - b).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(gap < 1e-5, "{gap}");
        }
    }

    #[test]
    fn empty_bags_sum_to_zero() {
        let table = Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let out = Bag::new([Vec::new(), Vec::new()]).plain_sum(&table).unwrap();
        assert_eq!(out.to_vec2::<f32>().unwrap(), vec![vec![0.0; 3]; 2]);
    }
}
