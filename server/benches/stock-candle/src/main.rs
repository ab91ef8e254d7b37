//! Stock candle as a rival of the benchmark `network`: the network as its user writes it, built as its user builds it.

#[path = "../../network/calls.rs"]
mod calls;

use std::collections::HashMap;
use std::io::BufRead;
use std::time::Instant;

use candle_core::{Device, Tensor};

use calls::{rate, values};

fn main() {
    if let Err(problem) = serve() {
        eprintln!("error: {problem}");
        std::process::exit(1);
    }
}

/// Weights `[outputs, inputs]` and bias of each layer, as `candle_nn::Linear` keeps them.
struct Network(Vec<(Tensor, Tensor)>);

impl Network {
    fn new(widths: &[usize]) -> candle_core::Result<Self> {
        let layer = |w: &[usize]| {
            let weight = Tensor::from_vec(values(w[0] * w[1], w[0]), (w[1], w[0]), &Device::Cpu)?;
            Ok((weight, Tensor::from_vec(values(w[1], 100), w[1], &Device::Cpu)?))
        };
        widths.windows(2).map(layer).collect::<candle_core::Result<_>>().map(Self)
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for (layer, (weight, bias)) in self.0.iter().enumerate() {
            x = x.matmul(&weight.t()?)?.broadcast_add(bias)?;
            if layer + 1 < self.0.len() {
                x = x.relu()?;
            }
        }
        Ok(x)
    }
}

/// Answers the commands that `onnx_runtime.py` lists.
fn serve() -> Result<(), String> {
    let mut networks: HashMap<String, (Network, usize)> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number =
            |at: usize| words.get(at).and_then(|w| w.parse::<usize>().ok()).ok_or(format!("{line}: argument {at}"));
        let input = |rows: usize, width: usize| Tensor::from_vec(values(rows * width, 1), (rows, width), &Device::Cpu);
        let fail = |e: candle_core::Error| e.to_string();
        let answer = match words.first().copied() {
            Some("load") => {
                let widths = (2..words.len()).map(number).collect::<Result<Vec<_>, _>>()?;
                networks.insert(words[1].to_owned(), (Network::new(&widths).map_err(fail)?, widths[0]));
                "ok".to_owned()
            }
            Some("pin") => {
                let mut core = rustix::thread::CpuSet::new();
                core.set(number(1)?);
                rustix::thread::sched_setaffinity(None, &core).map_err(|e| e.to_string())?;
                "ok".to_owned()
            }
            Some("time") => {
                let (network, width) = networks.get(words[1]).ok_or(format!("{line}: no such network"))?;
                let x = input(number(2)?, *width).map_err(fail)?;
                let repeats = number(3)?;
                let run = |times: usize| (0..times).try_for_each(|_| network.forward(&x).map(drop)).map_err(fail);
                run(1 + repeats / 10)?;
                let start = Instant::now();
                run(repeats)?;
                start.elapsed().as_secs_f64().to_string()
            }
            Some("rate") => {
                let (network, width) = networks.get(words[1]).ok_or(format!("{line}: no such network"))?;
                let rows = number(2)?;
                let x = input(rows, *width).map_err(fail)?;
                let calls = rate(number(4)?, |_| || network.forward(&x).map(drop).map_err(fail))?;
                (calls * rows as f64).to_string()
            }
            _ => return Err(format!("unknown command `{line}`")),
        };
        println!("{answer}");
    }
    Ok(())
}
