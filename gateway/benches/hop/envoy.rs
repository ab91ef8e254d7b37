//! Envoy with a route equal to the gateway's.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::{Process, free_port, wait_for};

/// Envoy on core 0, where the environment names its binary.
pub(crate) fn start(folder: &Path, backend: SocketAddr) -> Option<(Process, SocketAddr)> {
    let binary = std::env::var_os("ENVOY")?;
    let address = free_port();
    let path = folder.join("envoy.yaml");
    std::fs::write(&path, config(address, backend)).unwrap();
    let mut command = Command::new(binary);
    command.args(["--concurrency", "1", "--log-level", "off", "--disable-hot-restart", "-c"]).arg(path);
    let process = Process::start(0, command);
    wait_for(address);
    Some((process, address))
}

/// The same as the gateway's route: by path, deadline from `grpc-timeout`, retries on refused streams and 503 in a
/// budget, least request of two, outlier ejection, 1,024 requests at a time; no access log.
fn config(address: SocketAddr, backend: SocketAddr) -> String {
    let (port, backend_port) = (address.port(), backend.port());
    format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          codec_type: AUTO
          generate_request_id: false
          http2_protocol_options: {{max_concurrent_streams: 1024}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{path: /unimodel.v1.RankingService/Rank}}
                route:
                  cluster: search
                  max_stream_duration: {{grpc_timeout_header_max: 10s}}
                  retry_policy: {{retry_on: "connect-failure,refused-stream,reset,unavailable,resource-exhausted", num_retries: 2}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: search
    type: STATIC
    lb_policy: LEAST_REQUEST
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{max_concurrent_streams: 1024}}}}
    circuit_breakers:
      thresholds:
      - {{max_connections: 1024, max_requests: 1024, max_pending_requests: 1024, retry_budget: {{budget_percent: {{value: 10}}, min_retry_concurrency: 20}}}}
    outlier_detection: {{consecutive_5xx: 5}}
    load_assignment:
      cluster_name: search
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend_port}}}}}}}
"#
    )
}
