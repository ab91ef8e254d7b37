//! Requests a second, beside the same server with a constant for its model.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::load::{Length, Load, movies};
use crate::process::Server;
use crate::{constant, errors, median, movielens_setup, rounds};

const REQUESTS: usize = 20_000;

pub(crate) async fn measure() {
    let server = Server::ready(movielens_setup()).await;
    let this = std::env::current_exe().expect("this program");
    let mut rival = Command::new(this)
        .arg(constant::ARGUMENT)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let stdout = BufReader::new(rival.stdout.take().expect("its output"));
    let address = stdout.lines().next_line().await.expect("its output").expect("its address");
    let address = address.parse().expect("an address");

    let request = movies("notifications", 100);
    let (ours, theirs) = (Load::new(server.data, &request, 1, 32), Load::new(address, &request, 1, 32));
    for load in [&ours, &theirs] {
        load.run(Length::Requests(REQUESTS / 4)).await;
    }
    let (mut rates, mut rivals) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        rates.push(ours.run(Length::Requests(REQUESTS)).await.per_second);
        rivals.push(theirs.run(Length::Requests(REQUESTS)).await.per_second);
    }
    assert_eq!(errors(&server).await, 0.0);
    let ratio = median(rates.iter().zip(&rivals).map(|(a, b)| a / b).collect());
    let (ours, theirs) = (median(rates), median(rivals));
    println!(
        "100 candidate ids, gRPC, 32 in flight: {ours:.0} req/s, a constant for the model {theirs:.0}: {ratio:.2}x (asked 0.70)"
    );
}
