//! A catalogue of four films, ranked by what they share with the request: enough of a model to talk to.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tonic::async_trait;
use tower::ServiceExt;
use unimodel_model::context::{Context, Value};
use unimodel_model::features::{ContextError, check, nearest_name};
use unimodel_model::schema::Schema;
use unimodel_server::error::RankError;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::listener::{ConnectionLimits, serve};
use unimodel_server::http::service;
use unimodel_server::ranking::{Exchange, Ranking, Readiness, Statistics, Timing};
use unimodel_server::request::{
    Ids, Imputed, ImputedFrom, RankRequest, RankResponse, RankedItems, Source, Task, Version, check_select,
};
use unimodel_server::timeout::{Deadline, TimeoutPolicy};

pub(crate) use crate::document::Answer;

struct Film {
    id: &'static str,
    title: &'static str,
    genres: &'static [&'static str],
    year: f64,
}

const FILMS: [Film; 4] = [
    Film { id: "50", title: "Star Wars", genres: &["Action", "Romance", "Sci-Fi"], year: 1977.0 },
    Film { id: "172", title: "The Empire Strikes Back", genres: &["Action", "Drama", "Sci-Fi"], year: 1980.0 },
    Film { id: "258", title: "Contact", genres: &["Drama", "Sci-Fi"], year: 1997.0 },
    Film { id: "255", title: "My Best Friend's Wedding", genres: &["Comedy", "Romance"], year: 1997.0 },
];

/// The version that answers the user `swapped`.
pub(crate) const SWAPPED: &str = "20260102T000000Z-2b3c4d5e";

/// A `Ranking` on plain data. A `user_id` makes it behave as a runtime may: `overload` is refused, `slow` is never
/// answered, `broken` fails, `swapped` is answered by a version that has just become active. The user `7` has a profile.
pub(crate) struct Plain {
    tasks: Vec<Arc<Task>>,
    readiness: watch::Sender<Readiness>,
    exchanges: std::sync::Mutex<Vec<(String, Option<&'static str>)>>,
    slow: watch::Sender<usize>,
}

/// Counts one slow request for as long as it is waited for.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

pub(crate) fn schema() -> Schema {
    let element = |name: &str, kind: &str, default: Json, description: &str| json!({ "name": name, "type": kind, "default": default, "description": description });
    serde_json::from_value(json!({
        "context": [
            element("user_id", "id", Json::Null, "Who asks"),
            element("age", "number", Json::Null, "Years"),
            element("gender", "category", Json::Null, "F or M"),
            element("occupation", "category", Json::Null, "What the user does"),
            element("history", "list<id>", json!([]), "Rated titles, the most recent last"),
            element("source_item", "id", Json::Null, "The title that is being looked at"),
            element("query", "text", json!(""), "What was typed"),
            element("genre", "category", Json::Null, "The genre that is being browsed"),
            element("time", "number", Json::Null, "Seconds since 1970"),
        ],
        "profileKey": "user_id",
        "attributes": [
            { "name": "title", "type": "text" },
            { "name": "genres", "type": "list<category>" },
            { "name": "year", "type": "number" },
        ],
        "heads": [
            { "name": "category", "elements": ["user_id", "history", "genre"] },
            { "name": "notifications", "elements": ["user_id", "age", "history"] },
            { "name": "related", "elements": ["source_item"] },
            { "name": "search", "description": "What was meant by a query", "elements": ["query"] },
        ],
        "network": {},
        "contextEncodings": {},
        "attributeEncodings": {},
    }))
    .unwrap()
}

impl Plain {
    pub(crate) fn new() -> Self {
        let version = Arc::new(Version {
            name: "20260101T000000Z-1a2b3c4d".into(),
            data_time: "1998-04-23T00:10:38Z".parse().unwrap(),
            schema: Arc::new(schema()),
            items: FILMS.len(),
        });
        let task = |name: &str, required: &[&str]| {
            Arc::new(Task {
                name: name.into(),
                head: name.into(),
                max_candidates: 1000,
                timeout: TimeoutPolicy { default: Duration::from_secs(5), max: Duration::from_secs(10) },
                required: required.iter().map(|name| (*name).to_owned()).collect(),
                version: Ok(version.clone()),
            })
        };
        Self {
            tasks: vec![
                task("category", &["genre"]),
                task("notifications", &["user_id"]),
                task("related", &[]),
                task("search", &[]),
            ],
            readiness: watch::Sender::new(Readiness::Ready),
            exchanges: Default::default(),
            slow: watch::Sender::new(0),
        }
    }

    /// A server that has no version yet.
    pub(crate) fn without_version() -> Self {
        let mut plain = Self::new();
        plain.lack(|_| true, "no version is loaded");
        plain.set(Readiness::NotReady { reason: "loading 20260101T000000Z-1a2b3c4d".into() });
        plain
    }

    /// A server whose version lacks the head of that task.
    pub(crate) fn lacking(task: &str) -> Self {
        let mut plain = Self::new();
        plain.lack(|name| name == task, &format!("the version has no head `{task}`"));
        plain
    }

    fn lack(&mut self, which: impl Fn(&str) -> bool, why: &str) {
        for task in self.tasks.iter_mut().filter(|task| which(&task.name)) {
            Arc::make_mut(task).version = Err(why.to_owned());
        }
    }

    pub(crate) fn set(&self, readiness: Readiness) {
        self.readiness.send_replace(readiness);
    }

    /// Waits until so many slow requests are waited for.
    pub(crate) async fn slow(&self, count: usize) {
        self.slow.subscribe().wait_for(|now| *now == count).await.unwrap();
    }

    /// Protocol and error of every exchange so far.
    pub(crate) fn exchanges(&self) -> Vec<(String, Option<&'static str>)> {
        self.exchanges.lock().unwrap().clone()
    }
}

fn score(film: &Film, context: &Context) -> f32 {
    let words = |text: &str| text.to_lowercase().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let query = match context.get("query") {
        Some(Value::Text(query)) => words(query),
        _ => Vec::new(),
    };
    let seen = matches!(context.get("history"), Some(Value::List(ids)) if ids.iter().any(|id| id == film.id));
    let shared = words(film.title).iter().filter(|word| query.contains(word)).count();
    shared as f32 + (film.year as f32 - 1900.0) / 1000.0 - if seen { 0.5 } else { 0.0 }
}

fn fits(film: &Film, select: &Context) -> bool {
    let wanted = |value: &Value, has: &dyn Fn(&str) -> bool| match value {
        Value::Text(text) => has(text),
        Value::List(list) => list.iter().any(|text| has(text)),
        _ => false,
    };
    select.iter().all(|(name, value)| match name.as_str() {
        "title" => wanted(value, &|text| text == film.title),
        "genres" => wanted(value, &|text| film.genres.contains(&text)),
        _ => *value == Value::Number(film.year),
    })
}

#[async_trait]
impl Ranking for Plain {
    fn task(&self, name: &str) -> Option<Arc<Task>> {
        self.tasks.iter().find(|task| *task.name == *name).cloned()
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.clone()
    }

    fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    fn statistics(&self, _: &str) -> Statistics {
        let success = Timing { count: self.exchanges().len() as u64, total: Duration::from_millis(1) };
        Statistics { success, executions: 1, ..Default::default() }
    }

    async fn rank(&self, request: RankRequest, _: Deadline) -> Result<RankResponse, RankError> {
        let task = self.task(&request.task).unwrap();
        let version = task.version.as_ref().map_err(|reason| RankError::NotReady { reason: reason.clone() })?;
        let schema = &version.schema;
        let mut context = request.context;
        for (name, value) in &context {
            let known = || schema.context.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
            let element = schema.element(name).ok_or_else(|| ContextError::UnknownElement {
                element: name.clone(),
                nearest: nearest_name(name, &known()),
                known: known(),
            })?;
            check(element, value)?;
        }
        let user = match context.get("user_id") {
            Some(Value::Text(user)) => user.clone(),
            _ => String::new(),
        };
        match user.as_str() {
            "overload" => {
                let retry_after = Duration::from_millis(50);
                return Err(RankError::Overloaded { reason: "256 requests wait".into(), retry_after });
            }
            "slow" => {
                let _waiting = Waiting::begin(&self.slow);
                std::future::pending().await
            }
            "broken" => return Err(RankError::Internal { message: "a compute thread panicked".into() }),
            _ => {}
        }
        let mut imputed = Vec::new();
        for element in &schema.context {
            if context.get(&element.name).is_some_and(|value| *value != Value::Null) {
                continue;
            }
            if task.required.contains(&element.name) {
                let (task, element) = (task.name.to_string(), element.name.clone());
                return Err(RankError::MissingElement { task, element });
            }
            let profile = user == "7" && element.name == "age";
            let source = if profile { ImputedFrom::Profile } else { ImputedFrom::Default };
            imputed.push(Imputed { element: element.name.as_str().into(), source });
            context.insert(element.name.clone(), element.default.clone());
        }

        let mut unknown = Ids::default();
        let mut films: Vec<&Film> = match &request.candidates.source {
            Source::All => FILMS.iter().collect(),
            Source::Select(select) => {
                check_select(select, &schema.attributes)?;
                FILMS.iter().filter(|film| fits(film, select)).collect()
            }
            Source::Ids(ids) => {
                let find = |id: &str| FILMS.iter().find(|film| film.id == id);
                unknown.extend(ids.iter().filter(|id| find(id).is_none()));
                ids.iter().filter_map(find).collect()
            }
        };
        films.retain(|film| !request.candidates.exclude.iter().any(|id| id == film.id));
        films.sort_by(|a, b| score(b, &context).total_cmp(&score(a, &context)));
        let mut items = RankedItems::default();
        films.iter().take(request.limit).for_each(|film| items.push(film.id, score(film, &context)));
        Ok(RankResponse {
            items,
            unknown,
            task: request.task,
            model_version: if user == "swapped" { SWAPPED.into() } else { version.name.clone() },
            data_time: version.data_time,
            imputed,
        })
    }

    fn written(&self, _: &str, _: Duration) {}

    fn observe(&self, exchange: &Exchange<'_>) {
        self.exchanges.lock().unwrap().push((exchange.protocol.name().to_owned(), exchange.error));
    }
}

/// The protocols in front of a plain ranking, in this process.
pub(crate) fn router(ranking: Arc<Plain>) -> Router {
    service(Front::new(ranking, limits()))
}

pub(crate) fn limits() -> BodyLimits {
    BodyLimits { max_bytes: 64 << 10, timeout: Duration::from_millis(300), ..BodyLimits::default() }
}

/// Sends a request to the protocols in this process.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Posts a body.
pub(crate) async fn post(router: &Router, path: &str, body: impl Into<Body>) -> Answer {
    send(router, Request::post(path).body(body.into()).unwrap()).await
}

/// Gets a resource.
pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) ranking: Arc<Plain>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<usize>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Plain::new(), ConnectionLimits { header_timeout: Duration::from_millis(300), ..Default::default() })
            .await
    }

    pub(crate) async fn with(ranking: Plain, limits: ConnectionLimits) -> Self {
        let ranking = Arc::new(ranking);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(listener, router(ranking.clone()), limits, stopped, Duration::from_secs(5)));
        Self { address, ranking, stop: Some(stop), served }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::new(self.url()).unwrap().connect().await.unwrap()
    }

    /// Stops and returns the number of connections that were cut.
    pub(crate) async fn stop(mut self) -> usize {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap()
    }
}
