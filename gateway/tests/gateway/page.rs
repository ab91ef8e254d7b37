//! The admin port's page in a real browser, driven as WebDriver (W3C) says.
//!
//! Needs `chromedriver` and `chromium` on the PATH (Debian packages `chromium-driver` and `chromium`).

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::process::Program;
use crate::server::{Behaviour, Server};
use crate::world::{send_http1, task};

/// Members of a found element's reference (WebDriver, section 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser without a window, and what drives it.
struct Browser {
    driver: SocketAddr,
    session: String,
    _child: Child,
}

impl Browser {
    async fn open(url: &str) -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver (Debian packages chromium-driver and chromium)");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: u16 = loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver runs");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        let options = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        let mut browser = Self { driver, session: String::new(), _child: child };
        let session = browser.send(Method::POST, "", options).await;
        browser.session = format!("/{}", session["sessionId"].as_str().unwrap());
        browser.send(Method::POST, "/url", json!({"url": url})).await;
        browser
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        let body = if method == Method::POST { body.to_string() } else { String::new() };
        let request = Request::builder()
            .method(method)
            .uri(format!("/session{}{path}", self.session))
            .header("host", self.driver.to_string())
            .header("content-type", "application/json")
            .body(Full::from(body))
            .unwrap();
        let answer = send_http1(self.driver, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.json());
        answer.json()["value"].take()
    }

    /// The path of the only element that a selector finds.
    async fn find(&self, css: &str) -> String {
        let found = self.send(Method::POST, "/element", json!({"using": "css selector", "value": css})).await;
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    /// In one step, since the page may put another element in the place of one that was found.
    async fn text(&self, css: &str) -> String {
        let script = r"return document.querySelector(arguments[0]).innerText.replace(/\t+/g, ' ').trim()";
        self.send(Method::POST, "/execute/sync", json!({"script": script, "args": [css]}))
            .await
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The text of an element once it has some that `fits`.
    async fn text_when(&self, css: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for _ in 0..200 {
            text = self.text(css).await;
            if fits(&text) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{css} still says {text:?}");
    }

    async fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css).await;
        self.send(Method::POST, &format!("{element}/clear"), json!({})).await;
        self.send(Method::POST, &format!("{element}/value"), json!({"text": text})).await;
    }

    async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.send(Method::POST, &format!("{element}/click"), json!({})).await;
    }

    /// Ends the browser; the driver ends with this value.
    async fn close(self) {
        self.send(Method::DELETE, "", Value::Null).await;
    }
}

#[tokio::test]
async fn a_person_sees_the_tasks_asks_and_reads_the_answer() {
    let server = Server::start("server").await;
    let tasks = [
        task("search", &[server.address], "version: v7, required: [query], fallback: [{static: Popularity}]"),
        task("related", &[], "version: v7"),
    ];
    let program = Program::start(&tasks.join(", ")).await;
    let browser = Browser::open(&format!("http://{}/", program.admin)).await;

    let summary = browser.text_when("#summary", |text| text.contains("tasks")).await;
    assert_eq!(summary, "2 tasks, 1 versions in use (skew 0); no server: related");
    let rows = browser.text("#tasks").await;
    assert!(rows.contains("search") && rows.contains("v7") && rows.contains("1998-04-23"), "{rows}");
    assert!(rows.contains(&server.address.to_string()) && rows.contains("else popular items"), "{rows}");

    browser.type_into("#element-query", "star wrs").await;
    browser.type_into("#limit", "2").await;
    browser.click("#send").await;
    let said = browser.text_when("#said", |text| !text.is_empty()).await;
    let seen = server.seen().pop().unwrap();
    let asked: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(asked, json!({"context": {"query": "star wrs"}, "candidates": {"all": true}, "limit": 2}));
    assert!(said.contains("of search by"), "{said}");
    let items = browser.text("#answer tbody").await;
    assert!(items.starts_with("1 "), "{items}");
    browser.text_when("#tasks tr:first-child td:nth-child(5)", |text| text == "1").await;

    // What a server refuses stands on the page in words; what nobody answers comes from the list, and says so.
    browser.type_into("#limit", "1").await;
    server.set(Behaviour::Refuse(503, 14));
    browser.click("#send").await;
    browser.text_when("#said", |text| text.contains("fallback") && text.contains("Popularity")).await;
    browser.send(Method::POST, "/execute/sync", json!({"script": CHOOSE_RELATED, "args": []})).await;
    browser.click("#send").await;
    browser.text_when("#said", |text| text.contains("related")).await;
    browser.close().await;
}

const CHOOSE_RELATED: &str =
    "const task = document.getElementById('task'); task.value = 'related'; task.dispatchEvent(new Event('change'))";

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere() {
    let program = Program::start(&task("search", &[], "")).await;
    let page = program.admin("/").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let addresses = text.matches("http").count();
    // Names of XML, and no address.
    assert_eq!(addresses, text.matches("http://www.w3.org/").count(), "{addresses}");
}
