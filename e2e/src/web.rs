//! A web server with TLS in a test's namespace, whose certificate is signed by an authority of the test's own.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::place::Place;
use crate::store::{KEY, SECRET};

/// Starts it as `web`, at port 443. Gives the authority's certificate, as PEM.
///
/// Its pod has two programs over one directory: one that anybody may read from, with TLS, and one at port 7070 of the pod alone
/// by which a test fills it.
pub(crate) fn serve(place: &Place) -> String {
    let host = format!("web.{}.svc", place.namespace);
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![host]).unwrap().signed_by(&key, &issuer).unwrap();

    let image = std::env::var("STORE_IMAGE").unwrap_or_else(|_| "localhost/store:e2e".into());
    let policy = json!({"Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*",
    }]});
    let container = |name: &str, port: u16, words: &[&str], mounts: &[(&str, &str)]| {
        let port_word = format!(":{port}");
        let command = [&["/usr/bin/versitygw", "--quiet", "--port", &port_word], words].concat();
        let mounts: Vec<_> = mounts.iter().map(|(name, path)| json!({"name": name, "mountPath": path})).collect();
        json!({
            "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
            "command": command,
            "env": [{"name": "ROOT_ACCESS_KEY", "value": KEY}, {"name": "ROOT_SECRET_KEY", "value": SECRET}],
            "resources": {"requests": {"cpu": "10m"}},
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
            "volumeMounts": mounts,
        })
    };
    let data = [("buckets", "/data"), ("models", "/data/models")];
    let public = [&data[..], &[("policy", "/meta"), ("tls", "/tls")]].concat();
    let with_tls = ["--cert", "/tls/tls.crt", "--key", "/tls/tls.key", "posix", "--sidecar", "/meta", "/data"];
    let pod = json!({
        "automountServiceAccountToken": false,
        "securityContext": {
            "runAsNonRoot": true, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            container("web", 8443, &with_tls, &public),
            container("fill", 7070, &["posix", "--nometa", "/data"], &data),
        ],
        "volumes": [
            {"name": "buckets", "emptyDir": {}},
            {"name": "models", "emptyDir": {}},
            {"name": "tls", "secret": {"secretName": "web"}},
            // Where it looks for what a bucket allows.
            {"name": "policy", "configMap": {"name": "web", "items": [{"key": "policy", "path": "models/meta/policy"}]}},
        ],
    });
    let labels = json!({"app": "web"});
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": leaf.pem(), "tls.key": key.serialize_pem()},
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"policy": policy.to_string()}},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]});
    place.kubectl_with("apply -f -", &all.to_string()).well();
    place.kubectl("rollout status deployment/web --timeout=60s").well();
    certificate
}
