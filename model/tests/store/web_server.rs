//! A store behind a web server. The tests of the model server have it too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Serves the files below a directory over HTTP/1.1, without ranges, as simple servers do. It stops when this is dropped.
pub(crate) struct Web {
    pub(crate) url: String,
    refuses: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    pub(crate) async fn serve(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models", listener.local_addr().unwrap());
        let root = root.to_owned();
        let refuses = Arc::new(AtomicBool::new(false));
        let refusing = refuses.clone();
        let accept = async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (root, refuses) = (root.clone(), refusing.clone());
                connections.spawn(async move { answer(connection, &root, &refuses).await });
            }
        };
        Self { url, refuses, task: tokio::spawn(accept).abort_handle() }
    }

    /// Answers nobody any more, as to credentials that have expired.
    pub(crate) fn refuse(&self) {
        self.refuses.store(true, Ordering::Relaxed);
    }
}

async fn answer(connection: TcpStream, root: &Path, refuses: &AtomicBool) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        if connection.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        while connection.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match std::fs::read(root.join(path.trim_start_matches("/models/"))) {
            _ if refuses.load(Ordering::Relaxed) => ("403 Forbidden", Vec::new()),
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all(head.as_bytes()).await?;
        if method == "GET" {
            connection.write_all(&body).await?;
        }
    }
}
