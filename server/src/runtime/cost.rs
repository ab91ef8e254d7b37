//! What requests cost, in rows: the unit is one item's dot product.

use unimodel_model::network::NetworkConfig;

/// Bytes per second that one thread reads from memory where the items do not fit a cache, and floating-point operations
/// per second of the kernels, both of the machine in `docs/benchmarks.md`. Only their ratio counts.
const BYTES_PER_SECOND: f64 = 20e9;
const OPERATIONS_PER_SECOND: f64 = 200e9;

/// Costs of one version's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Costs {
    /// The context's half, whatever the candidates.
    pub(super) context: usize,
    /// Ranking one item again, as a multiple of its dot product.
    pub(super) rerank: usize,
}

impl Costs {
    pub(super) fn new(network: &NetworkConfig) -> Self {
        let width = network.width;
        let linear = network.linear.as_ref().map_or(0, |linear| linear.width);
        let row = ((width + linear + network.text_width) * size_of::<f32>()) as f64 / BYTES_PER_SECOND;
        let rows =
            |multiplications: usize| ((2 * multiplications) as f64 / OPERATIONS_PER_SECOND / row).ceil() as usize;
        // The block, and about as much again for what goes into it.
        let mut context = 2 * 2 * width * network.hidden;
        let mut rerank = 0;
        if let Some(ranker) = &network.ranker {
            let layers = ranker.hidden.windows(2).map(|sizes| sizes[0] * sizes[1]).sum::<usize>();
            let first = width * ranker.hidden.first().copied().unwrap_or(0);
            rerank = first + layers + ranker.hidden.last().copied().unwrap_or(0);
            // Its context half, and folding.
            context += 2 * first;
        }
        Self { context: rows(context), rerank: rows(rerank).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use unimodel_model::network::RankerConfig;

    use super::*;

    #[test]
    fn the_ranker_costs_what_its_layers_cost() {
        let plain = NetworkConfig::default();
        let ranked = |hidden: &[usize]| {
            let ranker = Some(RankerConfig { hidden: hidden.to_vec(), candidates: 100 });
            Costs::new(&NetworkConfig { ranker, ..plain.clone() })
        };
        assert!(Costs::new(&plain).context > 0);
        assert_eq!(Costs::new(&plain).rerank, 1);
        // 98,432 multiplications at 200 GFLOP/s take 984 ns, and 1,792 bytes at 20 GB/s 90.
        assert_eq!(ranked(&[256, 128]).rerank, 8);
        assert!(ranked(&[256, 256]).rerank > ranked(&[256, 128]).rerank);
    }
}
