//! 1,000 tasks with 10,000 endpoints: how long a change takes, and what memory it needs.

use std::path::Path;
use std::time::Instant;

use unimodel_gateway::table::Table;
use unimodel_gateway::{routes, watch};

use crate::{median, start_gateway};

const CHANGES: usize = 20;

/// A file of 1,000 tasks; `change` changes one endpoint of each tenth task.
fn file(change: usize) -> String {
    let mut text = String::from(
        "apiVersion: unimodel.dev/v1alpha1\nkind: Routes\nversions:\n- name: v7\n  dataTime: 1998-04-23T00:10:38Z\n  \
         items: 1682\n  context: [{name: query, type: text}]\n  popularity: {all: ['1', '2', '3']}\ntasks:\n",
    );
    for task in 0..1000 {
        text += &format!(
            "- name: task-{task}\n  version: v7\n  timeout: {{default: 50ms, max: 200ms}}\n  maxConcurrency: 64\n  \
             queueDepth: 256\n  fallback: [{{static: Popularity}}]\n  endpoints:\n"
        );
        for endpoint in 0..10 {
            let port = if endpoint == 0 && task % 10 == 0 { 9000 + change } else { 8080 };
            text += &format!("  - {{address: '10.{}.{}.{endpoint}:{port}'}}\n", task / 250, task % 250);
        }
    }
    text + "...\n"
}

pub(crate) fn measure(folder: &Path) {
    let path = folder.join("many.yaml");
    std::fs::write(&path, file(0)).unwrap();
    let mut table = Table::new(watch::read(&path).unwrap(), &Table::default(), Instant::now());
    let (mut read, mut built) = (Vec::new(), Vec::new());
    for change in 1..=CHANGES {
        std::fs::write(&path, file(change)).unwrap();
        let begun = Instant::now();
        let text = std::fs::read_to_string(&path).unwrap();
        let routes = routes::parse("many.yaml", &text).unwrap();
        let parsed = begun.elapsed();
        table = Table::new(routes, &table, Instant::now());
        read.push(parsed.as_secs_f64() * 1e3);
        built.push((begun.elapsed() - parsed).as_secs_f64() * 1e3);
    }
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!("1,000 tasks, 10,000 endpoints, a file of {} KiB, median of {CHANGES} changes:", bytes >> 10);
    println!("read and check {:.1} ms, build and swap {:.1} ms", median(read), median(built));

    let (process, _) = start_gateway(0, &path);
    for change in 0..CHANGES {
        std::fs::write(&path, file(change)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    println!("memory of the process after {CHANGES} changes: {rss}");
}
