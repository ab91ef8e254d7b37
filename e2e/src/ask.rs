//! Requests through a gateway's Service, one at a time or as a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::place::Place;
use crate::{cluster_is_anothers, until};

/// A model's gateway.
#[derive(Clone)]
pub struct Gateway {
    way: Way,
    /// For how long a request whose connection ends is asked again.
    again: Duration,
}

/// Inside the test's own cluster Services answer at their addresses. Any other is reached through its API server.
#[derive(Clone)]
enum Way {
    Direct { http: reqwest::Client, base: String },
    Proxied { client: Client, base: String },
}

impl Gateway {
    pub(crate) async fn of(place: &Place, model: &str) -> Self {
        let services: Api<Service> = place.api();
        let name = format!("{model}-gateway");
        let address = until(&format!("Service {name} has an address"), Duration::from_secs(30), async || {
            let service = services.get(&name).await.map_err(|error| error.to_string())?;
            service.spec.and_then(|spec| spec.cluster_ip).ok_or_else(|| "it has none".to_owned())
        })
        .await;
        let way = if cluster_is_anothers() {
            let base = format!("/api/v1/namespaces/{}/services/{name}:http/proxy", place.namespace);
            // What a gateway answers is what is looked at: kube would ask again where that is 429, 503 or 504.
            let mut config = Config::infer().await.expect("a cluster");
            config.default_retry = false;
            Way::Proxied { client: Client::try_from(config).expect("a client"), base }
        } else {
            // Short waits between requests make new connections now and then, as many callers would.
            let http = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(5));
            let http = http.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(10)).build().unwrap();
            Way::Direct { http, base: format!("http://{address}") }
        };
        Self { way, again: Duration::ZERO }
    }

    /// For callers that ask again, on another connection, where theirs ends: a gateway that dies takes those along that it has.
    pub fn asked_again(&self) -> Self {
        Self { again: Duration::from_secs(5), ..self.clone() }
    }

    async fn send(&self, method: http::Method, path: &str, body: Option<&Value>) -> Result<(u16, String), String> {
        let began = Instant::now();
        loop {
            match self.send_once(method.clone(), path, body).await {
                Err(_) if began.elapsed() < self.again => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => return answer,
            }
        }
    }

    /// The status and the text of an answer, or what has become of the connection.
    async fn send_once(&self, method: http::Method, path: &str, body: Option<&Value>) -> Result<(u16, String), String> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        match &self.way {
            Way::Direct { http, base } => {
                let request = http.request(method, format!("{base}{path}"));
                let request = request.header("content-type", "application/json").body(body);
                let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
                let status = answer.status().as_u16();
                Ok((status, answer.text().await.map_err(|error| format!("{error:?}"))?))
            }
            Way::Proxied { client, base } => {
                let request = http::Request::builder().method(method).uri(format!("{base}{path}"));
                let request = request.header("content-type", "application/json").body(body.into_bytes());
                match client.request_text(request.unwrap()).await {
                    Ok(text) => Ok((200, text)),
                    Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }

    /// The status and the document that a path answers.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        self.send(http::Method::GET, path, None).await
    }

    /// A ranking of all items, or why there is none.
    pub async fn rank(&self, task: &str, context: &Value) -> Result<Value, String> {
        let body = json!({"context": context, "candidates": {"all": true}, "limit": 3});
        let (status, text) = self.send(http::Method::POST, &format!("/v1/tasks/{task}:rank"), Some(&body)).await?;
        if status != 200 {
            return Err(format!("{status}: {text}"));
        }
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match answer["items"].as_array() {
            Some(items) if !items.is_empty() => Ok(answer),
            _ => Err(format!("no items: {text}")),
        }
    }

    /// Waits for a ranking by the task's own servers.
    pub async fn answers(&self, task: &str, context: &Value, limit: Duration) -> Value {
        until(&format!("{task} answers"), limit, async || {
            let answer = self.rank(task, context).await?;
            if answer["fallback"].is_null() {
                Ok(answer)
            } else {
                Err(format!("by a fallback: {}", answer["fallback"]))
            }
        })
        .await
    }

    /// Asks one task all the time, from several callers, until it is ended.
    pub fn load(&self, task: &str, context: Value, callers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..callers)
            .map(|_| tokio::spawn(call(self.clone(), task.to_owned(), context.clone(), stop.clone())))
            .collect();
        Load { stop, callers }
    }
}

async fn call(gateway: Gateway, task: String, context: Value, stop: Arc<AtomicBool>) -> Report {
    let mut report = Report::default();
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        match gateway.rank(&task, &context).await {
            Ok(answer) => {
                report.answered += 1;
                report.by_fallback += u64::from(!answer["fallback"].is_null());
                let version = answer["modelVersion"].as_str().unwrap_or_default();
                if report.versions.last().is_none_or(|last| last != version) {
                    report.versions.push(version.to_owned());
                }
            }
            Err(why) => report.failed.push(format!("after {:.1?}, in {:.1?}: {why}", began.elapsed(), asked.elapsed())),
        }
        report.slowest = report.slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report
}

/// Callers that ask all the time.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Report>>,
}

/// What callers saw.
#[derive(Debug, Default)]
pub struct Report {
    pub answered: u64,
    pub by_fallback: u64,
    pub failed: Vec<String>,
    /// The versions that answered, in their order, as each caller saw them.
    pub versions: Vec<String>,
    pub slowest: Duration,
}

impl Load {
    pub async fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for caller in self.callers {
            let one = caller.await.unwrap();
            all.answered += one.answered;
            all.by_fallback += one.by_fallback;
            all.failed.extend(one.failed);
            all.versions.extend(one.versions);
            all.slowest = all.slowest.max(one.slowest);
        }
        all
    }

    /// Ends it, and fails the test if one request was not answered by the task's own servers.
    pub async fn all_answered(self, least: u64) -> Report {
        let report = self.end().await;
        println!(
            "{} answered, {} by a fallback, {} failed, slowest {:.0?}",
            report.answered,
            report.by_fallback,
            report.failed.len(),
            report.slowest
        );
        assert!(
            report.failed.is_empty(),
            "{} of {} failed: {:#?}",
            report.failed.len(),
            report.answered,
            &report.failed[..report.failed.len().min(10)]
        );
        assert_eq!(report.by_fallback, 0, "of {}", report.answered);
        assert!(report.answered >= least, "only {} requests were made", report.answered);
        report
    }
}
