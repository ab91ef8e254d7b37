//! `cargo bench -p unimodel-server --bench network`: the network on the CPU against ONNX Runtime and stock candle.
//!
//! Rivals are processes of their own that take commands on their standard input: ONNX Runtime in Python (`onnx_runtime.py`, with
//! the packages of `requirements.txt` in the interpreter that the environment variable `PYTHON` names), and stock candle
//! (`../stock-candle`, whose program `CANDLE` names), once with one rayon thread and once with as many as rayon takes by
//! default. Each round times all of them one after the other on one core, so that whatever slows the machine down slows all; what is
//! printed are medians over the rounds, and medians of the rounds' ratios. `ISA=portable|avx2|avx512` chooses other
//! kernels than the fastest, `ROUNDS` another number of rounds than 101.

mod calls;
mod ours;
mod rival;
#[path = "../../tests/compute_engine/world.rs"]
mod world;

use calls::{RATE, rate};
use ours::{Flat, Pairs, Version};
use rival::Rival;
use unimodel_server::compute::kernels::{Isa, Kernels};
use unimodel_server::compute::threads;

/// The network of the comparison.
const WIDTHS: [usize; 5] = [256, 512, 256, 128, 1];
/// About how long one timing takes: long beside a clock's tick, short beside what else a machine does.
const TIMING: f64 = 0.005;

fn main() {
    if let Err(problem) = compare() {
        eprintln!("error: {problem}");
        std::process::exit(1);
    }
}

fn compare() -> Result<(), String> {
    let kernels = kernels()?;
    let rounds = match std::env::var("ROUNDS") {
        Ok(n) => n.parse().ok().filter(|n| *n > 0).ok_or(format!("ROUNDS={n}: give a number above zero"))?,
        Err(_) => 101,
    };
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().map_err(|e| e.to_string())?;
    let cores = threads::allowed_cores().map_err(|e| e.to_string())?;
    let core = *cores.last().ok_or("no core")?;
    let mut onnx = Rival::onnx()?;
    let mut candle = Rival::candle(Some(1))?;
    let mut threaded = Rival::candle(None)?;
    let load = |name: &str, widths: &[usize], rivals: &mut [&mut Rival]| {
        let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
        let command = format!("load {name} {}", widths.join(" "));
        rivals.iter_mut().try_fold(String::new(), |_, rival| rival.ask(&command))
    };
    load("flat", &WIDTHS, &mut [&mut candle, &mut threaded])?;
    let version = load("flat", &WIDTHS, &mut [&mut onnx])?.replace("ok", "ONNX Runtime");
    println!("kernels {}, {version}, {} cores, {rounds} rounds", kernels.isa().name(), cores.len());
    threads::pin_current_thread(core).map_err(|e| e.to_string())?;
    onnx.ask(&format!("pin {core}"))?;
    candle.ask(&format!("pin {core}"))?;

    let flat = Flat::new(kernels, &WIDTHS);
    head("256→512→256→128→1, one thread");
    for rows in [1, 8, 32, 256, 1024] {
        let call = format!("flat {rows}");
        compare_times(&format!("N = {rows}"), rounds, flat.caller(rows), &call, &mut onnx, &mut candle)?;
    }

    head("first layer taken apart, 256 candidates, one thread");
    for (name, context, item, product, rest) in [
        ("[context 1024; item 128]→512→256→128→1", 1024, 128, false, &WIDTHS[1..]),
        ("[context 128; item 128; product]→256→128→1", 128, 128, true, &WIDTHS[2..]),
    ] {
        let flat: Vec<usize> = [context + item + usize::from(product) * item].iter().chain(rest).copied().collect();
        load(&format!("flat{}", flat[0]), &flat, &mut [&mut onnx, &mut candle])?;
        let pairs = Pairs::new(kernels, context, item, product, rest);
        let call = format!("flat{} 256", flat[0]);
        compare_times(name, rounds, pairs.caller(256), &call, &mut onnx, &mut candle)?;
    }

    println!("\n| default network, 1,682 items, ranker over the best 200, one thread | µs |\n|---|---|");
    let version = Version::new(kernels).map_err(|e| e.to_string())?;
    for (name, call) in [
        ("context half", &mut version.context_half() as &mut dyn FnMut()),
        ("best 10 of 1 candidate", &mut version.caller(Some(1))),
        ("best 10 of 100 candidates", &mut version.caller(Some(100))),
        ("best 10 of all", &mut version.caller(None)),
        ("context half in plain candle", &mut version.plain(false)),
        ("context half and dot products of all in plain candle", &mut version.plain(true)),
    ] {
        let micros = (0..rounds).map(|_| ours::time(&mut *call, 20) * 5e4).collect();
        println!("| {name} | {:.1} |", median(micros));
    }

    println!("\n| 256→512→256→128→1, two workers, N = 256 | rows/s | ours / it |\n|---|---|---|");
    onnx.ask("pin -1")?;
    let mut candle = Rival::candle(Some(1))?;
    load("flat", &WIDTHS, &mut [&mut candle])?;
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds.div_ceil(4) {
        let call = format!("rate flat 256 {} 2", RATE.as_secs_f64());
        rates[0].push(256.0 * rate(2, |worker| pinned(flat.caller(256), cores[worker % cores.len()]))?);
        for (rates, rival) in rates[1..].iter_mut().zip([&mut onnx, &mut candle, &mut threaded]) {
            rates.push(rival.number(&call)?);
        }
    }
    let names = ["ours", "ONNX Runtime", "candle, one rayon thread", "candle, default threads"];
    for (name, rate) in names.into_iter().zip(&rates) {
        println!("| {name} | {:.0} | {:.2} |", median(rate.clone()), median(ratios(&rates[0], rate)));
    }
    Ok(())
}

fn kernels() -> Result<Kernels, String> {
    let Ok(name) = std::env::var("ISA") else { return Ok(Kernels::detect()) };
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or(format!("ISA={name}: no such kernels"))?;
    Kernels::of(isa).ok_or(format!("ISA={name}: this machine has it not"))
}

fn head(what: &str) {
    println!("\n| {what} | ours µs | ONNX Runtime µs | candle µs | ONNX Runtime / ours | candle / ours |");
    println!("|---|---|---|---|---|---|");
}

/// Prints a line of the table under [`head`]; `call` is what the rivals time.
fn compare_times(
    name: &str,
    rounds: usize,
    mut ours: impl FnMut(),
    call: &str,
    onnx: &mut Rival,
    candle: &mut Rival,
) -> Result<(), String> {
    let repeats = ((TIMING / ours::time(&mut ours, 20) * 20.0) as usize).max(1);
    let mut micros: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let seconds = [
            ours::time(&mut ours, repeats),
            onnx.number(&format!("time {call} {repeats}"))?,
            candle.number(&format!("time {call} {repeats}"))?,
        ];
        micros.iter_mut().zip(seconds).for_each(|(micros, s)| micros.push(s / repeats as f64 * 1e6));
    }
    let [ours, onnx, candle] = &micros;
    let (to_onnx, to_candle) = (median(ratios(onnx, ours)), median(ratios(candle, ours)));
    let [ours, onnx, candle] = [ours, onnx, candle].map(|m| median(m.clone()));
    println!("| {name} | {ours:.1} | {onnx:.1} | {candle:.1} | {to_onnx:.2} | {to_candle:.2} |");
    Ok(())
}

/// A caller that keeps its thread on a core.
fn pinned(mut call: impl FnMut(), core: usize) -> impl FnMut() -> Result<(), String> {
    let mut pinned = false;
    move || {
        if !pinned {
            threads::pin_current_thread(core).map_err(|e| e.to_string())?;
            pinned = true;
        }
        call();
        Ok(())
    }
}

fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
