//! What was found, as a table for terminals.

use std::fmt::Write;

use crate::measure::Found;

type Row = (&'static str, &'static str, fn(&Found) -> String);

const MIB: f64 = 1024.0 * 1024.0;

const ROWS: [Row; 21] = [
    ("requests a task", "12", |f| format!("{:.2}", f.requests as f64 / tasks(f))),
    ("reads among them", "0", |f| f.reads.to_string()),
    ("rounds an object", "", |f| format!("{:.1}", f.reconciles as f64 / f.objects as f64)),
    ("processor time a task, ms", "4", |f| format!("{:.2}", f.cpu * 1000.0 / tasks(f))),
    ("memory, MiB", "64", |f| mib(f.memory)),
    ("memory at its peak, MiB", "", |f| mib(f.memory_peak)),
    ("objects made within, s", "", |f| format!("{:.1}", f.made)),
    ("all ready, s", "45", |f| format!("{:.1}", f.all_ready)),
    ("one, median, s", "all / 3", |f| format!("{:.1}", f.one_ready.p50)),
    ("one once begun, median, s", "", |f| format!("{:.1}", f.one_ready_once_begun.p50)),
    ("edit, median, s", "", |f| format!("{:.3}", f.edit.p50)),
    ("edit, p99, s", "0.2", |f| format!("{:.3}", f.edit.p99)),
    ("requests an edit", "", |f| format!("{:.2}", f.edit_requests)),
    ("writes while idle", "0", |f| f.idle_writes.to_string()),
    ("writes after touches", "0", |f| f.forced_writes.to_string()),
    ("work after touches", "", |f| f.forced_reconciles.to_string()),
    ("writes after a restart", "0", |f| f.restart_writes.to_string()),
    ("objects changed by it", "0", |f| f.restart_changed.to_string()),
    ("reads after a restart", "", |f| f.restart_reads.to_string()),
    ("restart, s", "", |f| format!("{:.1}", f.restart_seconds)),
    ("memory after it / peak, MiB", "64", |f| format!("{} / {}", mib(f.restart_memory), mib(f.restart_memory_peak))),
];

fn tasks(found: &Found) -> f64 {
    (found.objects * found.tasks) as f64
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

/// Rows of measures, and columns of workloads.
pub fn table(found: &[Found]) -> String {
    let mut text = format!("{:30} {:>8}", "", "target");
    // Writing into a String does not fail.
    let mut cells = |row: &str, target: &str, cell: &dyn Fn(&Found) -> String| {
        let _ = write!(text, "\n{row:30} {target:>8}");
        for found in found {
            let _ = write!(text, " {:>13}", cell(found));
        }
    };
    cells("objects x tasks", "", &|f| f.workload.clone());
    for (row, target, cell) in ROWS {
        cells(row, target, &cell);
    }
    cells("processor time of the operator", "", &|f| format!("{:.1}", f.cpu));
    let names: Vec<&String> = found.iter().flat_map(|f| f.cpu_of.keys()).collect();
    let mut others = names.clone();
    others.sort();
    others.dedup();
    for name in others {
        cells(&format!("  of {name}"), "", &|f| format!("{:.1}", f.cpu_of.get(name).copied().unwrap_or_default()));
    }
    text.push('\n');
    text
}
