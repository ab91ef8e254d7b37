//! Metrics of the process under the names that all Prometheus clients use, from `/proc` (proc(5)).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// `/proc` counts time in ticks of `USER_HZ`, which Linux fixes at 100 for programs on all its architectures but the long
/// gone Alpha.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process's state when it is asked for metrics. Where there is no `/proc`, there are no such metrics.
#[derive(Debug)]
pub struct ProcessCollector;

/// What `/proc` says.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    start_time_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    peak_resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl Process {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        process.open_fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name in brackets and may have spaces; the third is number 0 here.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        let ticks = |field: usize| Some(fields.get(field)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        let status = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let kibibytes = |name: &str| Some(status(name)? * 1024);
        let boot: Option<f64> = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
        Self {
            cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, system)| user + system),
            start_time_seconds: boot.zip(ticks(19)).map(|(boot, start)| boot + start),
            resident_bytes: kibibytes("VmRSS"),
            peak_resident_bytes: kibibytes("VmHWM"),
            virtual_bytes: kibibytes("VmSize"),
            threads: status("Threads"),
            open_fds: None,
            max_fds: max_fds.and_then(|max| max.parse().ok()),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let process = Process::read();
        let mut write = |name: &str, help: &str, metric: &dyn EncodeMetricOf| metric.write(&mut encoder, name, help);
        if let Some(value) = process.cpu_seconds {
            write("process_cpu_seconds", "Processor time used, of all threads", &ConstCounter::new(value))?;
        }
        if let Some(value) = process.start_time_seconds {
            write("process_start_time_seconds", "When the process started, since 1970", &ConstGauge::new(value))?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory that is resident", process.resident_bytes),
            ("process_peak_resident_memory_bytes", "The most memory that was resident", process.peak_resident_bytes),
            ("process_virtual_memory_bytes", "Memory that is mapped", process.virtual_bytes),
            ("process_threads", "Threads", process.threads),
            ("process_open_fds", "Open file descriptors", process.open_fds),
            ("process_max_fds", "The most open file descriptors", process.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                write(name, help, &ConstGauge::new(value as i64))?;
            }
        }
        Ok(())
    }
}

/// A metric of any type, with its name.
trait EncodeMetricOf {
    fn write(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> EncodeMetricOf for M {
    fn write(&self, encoder: &mut DescriptorEncoder, name: &str, help: &str) -> Result<(), fmt::Error> {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 7 0 4200 1000 200 18446744073709551615";
        let status =
            "Name:\tserver\nVmPeak:\t  9 kB\nVmSize:\t     20 kB\nVmHWM:\t 12 kB\nVmRSS:\t   10 kB\nThreads:\t7\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        let process = Process::parse(stat, status, limits, "cpu  1 2 3\nbtime 1000\n");
        let expected = Process {
            cpu_seconds: Some(1.75),
            start_time_seconds: Some(1042.0),
            resident_bytes: Some(10_240),
            peak_resident_bytes: Some(12_288),
            virtual_bytes: Some(20_480),
            threads: Some(7),
            open_fds: None,
            max_fds: Some(1024),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        assert_eq!(Process::parse("", "", "", ""), Process::default());
        assert_eq!(Process::parse("42 (a", "VmRSS: x kB", "Max open files unlimited", "btime"), Process::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_of_it() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.start_time_seconds.is_some_and(|start| start > 1e9), "{process:?}");
        assert!(process.cpu_seconds.is_some() && process.open_fds.is_some_and(|fds| fds > 2), "{process:?}");
    }
}
