//! From a URL to a store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::{Host, Url};

use super::error::reason;
use super::{Kind, Store, StoreError};

/// Opens the store. What goes on later is the store's matter; here only the URL and the variables can be wrong.
pub(super) fn open(url: &str, variables: &[(String, String)]) -> Result<Store, StoreError> {
    let refuse = |problem: String| StoreError::Url { url: without_credentials(url), problem };
    if url.is_empty() {
        return Err(refuse(
            "it is empty; use a directory or a file://, s3://, gs://, az:// or https:// URL".to_owned(),
        ));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return directory(url, std::path::absolute(url).map_err(|e| refuse(e.to_string()))?.as_path()).map_err(refuse);
    };
    if scheme == "file" {
        return directory(url, &file_path(rest).map_err(refuse)?).map_err(refuse);
    }
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
        return Err(refuse("credentials and options come from environment variables, not from the URL".to_owned()));
    }
    let host = parsed.host().ok_or_else(|| refuse("a bucket or host is missing after `://`".to_owned()))?;
    let client = client(variables).map_err(refuse)?;
    let (kind, objects) = match scheme {
        "s3" => (Kind::Bucket, s3(url, variables, client)),
        "gs" => (Kind::Bucket, gcs(url, variables, client)),
        "az" => (Kind::Bucket, azure(url, variables, client)),
        "https" => (Kind::Web, web(&parsed, client)),
        // Whoever can change an answer on its way could change manifest and files alike.
        "http" if is_loopback(&host) => (Kind::Web, web(&parsed, client)),
        "http" => return Err(refuse("http:// is not safe for a model; use https://".to_owned())),
        _ => return Err(refuse(format!("`{scheme}://` is not known; use file://, s3://, gs://, az:// or https://"))),
    };
    let objects = objects.map_err(|e| refuse(reason(&e)))?;
    let prefix = ObjectPath::from_url_path(parsed.path()).map_err(|e| refuse(e.to_string()))?;
    Ok(Store { url: url.trim_end_matches('/').to_owned(), kind, objects, prefix })
}

fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => {
            format!("{scheme}://…@{}", rest.rsplit_once('@').map_or("", |(_, host)| host))
        }
        _ => url.to_owned(),
    }
}

/// The path of a `file://` URL. Unlike the standard, what follows may be relative to the working directory.
fn file_path(rest: &str) -> Result<std::path::PathBuf, String> {
    let here = std::env::current_dir().map_err(|e| format!("the working directory is unknown: {e}"))?;
    let base = Url::from_directory_path(&here).map_err(|()| format!("{} has no URL", here.display()))?;
    let rest = rest.strip_prefix("localhost/").map_or(rest.to_owned(), |absolute| format!("/{absolute}"));
    if rest.is_empty() || rest.contains(['?', '#']) {
        return Err("use file:// and the path of a directory, absolute or relative".to_owned());
    }
    // A leading `./` keeps what looks like a scheme or host from being one.
    let relative = if rest.starts_with('/') { format!("/.{rest}") } else { format!("./{rest}") };
    let joined = base.join(&relative).map_err(|e| e.to_string())?;
    joined.to_file_path().map_err(|()| "it is not the path of a directory".to_owned())
}

fn directory(url: &str, root: &Path) -> Result<Store, String> {
    let prefix = ObjectPath::from_absolute_path(root).map_err(|e| e.to_string())?;
    Ok(Store {
        url: url.trim_end_matches('/').to_owned(),
        kind: Kind::Directory(root.to_owned()),
        objects: Arc::new(LocalFileSystem::new()),
        prefix,
    })
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Some tries, so that a hiccup is bridged, but not minutes of silence when the endpoint is wrong.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

/// The variable with certificates of authorities, as PEM, that are trusted besides those of the system: a company's own store
/// is often signed by its own.
const AUTHORITIES: &str = "UNIMODEL_STORE_CA";

/// Time enough for one part of a file on a slow line.
fn client(variables: &[(String, String)]) -> Result<ClientOptions, String> {
    let options = ClientOptions::new().with_timeout(Duration::from_secs(120));
    let Some((_, text)) = variables.iter().find(|(name, _)| name == AUTHORITIES) else { return Ok(options) };
    match Certificate::from_pem_bundle(text.as_bytes()) {
        Ok(authorities) if !authorities.is_empty() => {
            Ok(authorities.into_iter().fold(options, ClientOptions::with_root_certificate))
        }
        _ => Err(format!("{AUTHORITIES} has no certificate; set it to the text of a PEM file, not to its path")),
    }
}

type Opened = object_store::Result<Arc<dyn ObjectStore>>;

/// The settings among the variables whose names begin so.
fn settings<K: std::str::FromStr>(variables: &[(String, String)], prefix: &str) -> Vec<(K, String)> {
    let parse = |(name, value): &(String, String)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone()));
    variables.iter().filter(|(name, _)| name.starts_with(prefix)).filter_map(parse).collect()
}

fn s3(url: &str, variables: &[(String, String)], client: ClientOptions) -> Opened {
    let builder = AmazonS3Builder::new().with_client_options(client).with_retry(retries()).with_url(url);
    let settings = settings(variables, "AWS_").into_iter();
    Ok(Arc::new(settings.fold(builder, |b, (key, value)| b.with_config(key, value)).build()?))
}

fn gcs(url: &str, variables: &[(String, String)], client: ClientOptions) -> Opened {
    let builder = GoogleCloudStorageBuilder::new().with_client_options(client).with_retry(retries()).with_url(url);
    let settings = settings(variables, "GOOGLE_").into_iter();
    Ok(Arc::new(settings.fold(builder, |b, (key, value)| b.with_config(key, value)).build()?))
}

fn azure(url: &str, variables: &[(String, String)], client: ClientOptions) -> Opened {
    let builder = MicrosoftAzureBuilder::new().with_client_options(client).with_retry(retries()).with_url(url);
    let settings = settings(variables, "AZURE_").into_iter();
    Ok(Arc::new(settings.fold(builder, |b, (key, value)| b.with_config(key, value)).build()?))
}

fn web(url: &Url, client: ClientOptions) -> Opened {
    // A file comes in one answer, however large it is: many web servers know no ranges.
    let client = client.with_timeout(Duration::from_secs(3600)).with_allow_http(url.scheme() == "http");
    let host = &url[..url::Position::BeforePath];
    Ok(Arc::new(HttpBuilder::new().with_url(host).with_client_options(client).with_retry(retries()).build()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn root(url: &str) -> PathBuf {
        match open(url, &[]).unwrap().kind {
            Kind::Directory(root) => root,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn directories_may_be_relative_or_absolute() {
        let here = std::env::current_dir().unwrap();
        for url in ["file://./store", "file://store", "store", "./store", "file://x/../store"] {
            assert_eq!(root(url), here.join("store"), "{url}");
        }
        for url in ["file:///srv/a b", "file:///srv/a%20b", "file://localhost/srv/a%20b", "/srv/a b"] {
            assert_eq!(root(url), Path::new("/srv/a b"), "{url}");
        }
        assert_eq!(open("file://./store/", &[]).unwrap().url(), "file://./store");
    }

    #[test]
    fn schemes_that_are_not_stores_are_refused_with_those_that_are() {
        for (url, expected) in [
            ("", "it is empty"),
            ("ftp://host/x", "use file://, s3://, gs://, az:// or https://"),
            ("memory://x", "use file://"),
            ("file://", "the path of a directory"),
            ("s3://", "a bucket or host is missing"),
            ("http://example.com/models", "use https://"),
            ("s3://bucket/x?region=a", "come from environment variables"),
        ] {
            let error = open(url, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
        }
        let error = open("s3://key:secret@bucket/x", &[]).unwrap_err().to_string();
        assert!(error.contains("environment variables") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn buckets_open_with_variables_only() {
        let variables =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<Vec<_>>();
        let keys =
            variables(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "eu-west-1")]);
        let store = open("s3://bucket/models/discovery", &keys).unwrap();
        assert_eq!((store.kind, store.prefix.as_ref()), (Kind::Bucket, "models/discovery"));
        let keys = variables(&[("AZURE_STORAGE_ACCOUNT_NAME", "a"), ("AZURE_STORAGE_ACCOUNT_KEY", "YQ==")]);
        assert_eq!(open("az://container/m", &keys).unwrap().kind, Kind::Bucket);
        let error = open("az://container/m", &[]).unwrap_err().to_string();
        assert!(error.contains("Account must be specified"), "{error}");
        assert_eq!(open("gs://bucket", &[]).unwrap().prefix.as_ref(), "");
        assert_eq!(open("https://example.com/models", &[]).unwrap().kind, Kind::Web);
        assert_eq!(open("http://127.0.0.1:8000/models", &[]).unwrap().kind, Kind::Web);
    }

    #[test]
    fn authorities_are_given_as_text() {
        let open = |text: &str| open("https://example.com/models", &[(AUTHORITIES.to_owned(), text.to_owned())]);
        let certificate = include_str!("authority.pem");
        assert!(open(certificate).is_ok() && open(&format!("{certificate}\n{certificate}")).is_ok());
        for text in ["", "/etc/ssl/ca.crt"] {
            assert!(open(text).unwrap_err().to_string().contains("the text of a PEM file"), "{text}");
        }
    }
}
