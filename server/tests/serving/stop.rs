//! SIGTERM: unready, what is in flight is answered, exit 0.

use serde_json::json;
use tokio::task::JoinSet;

use crate::fixture::Recipe;
use crate::process::{Server, Setup, http};
use crate::store::Versions;

/// A catalogue that one thread ranks for a while.
const ITEMS: usize = 4_000;
const REQUESTS: usize = 24;

#[tokio::test]
async fn what_is_in_flight_is_answered_before_the_server_exits() {
    let store = Versions::new();
    let version = store.publish_changed(&Recipe { items: ITEMS, ..Recipe::default() }, |_| {}).await;
    store.promote(&version).await;
    for signal in ["TERM", "INT"] {
        let mut server = Server::ready(Setup::new(store.url())).await;
        let mut requests = JoinSet::new();
        for i in 0..REQUESTS {
            let body = json!({ "context": { "age": i }, "candidates": { "all": true }, "limit": 3 }).to_string();
            let data = server.data;
            requests.spawn(async move { http(data, "POST", "/v1/tasks/search:rank", &body).await });
        }
        server
            .until(async |server| {
                let waiting = server.metric("unimodel_in_flight{task=\"search\"}").await;
                let answered = server.metric("unimodel_requests_total{task=\"search\",protocol=\"rest\"}").await;
                (waiting + answered >= REQUESTS as f64).then_some(())
            })
            .await;
        server.signal(signal);
        while let Some(answer) = requests.join_next().await {
            let (status, body) = answer.unwrap();
            assert_eq!(status, 200, "{body}");
        }
        assert!(server.exited().await.success(), "{}", server.log_text());
        assert_eq!(server.logged("stopping").await["signal"], format!("SIG{signal}"));
        server.logged("stopped").await;
    }
}
