//! What the gateway answers itself.

use http::{Request, StatusCode};
use http_body_util::Full;
use prost::Message;
use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use unimodel_protocol::inference as pb;

use crate::server::Server;
use crate::world::{World, nobody, request, task};

async fn world() -> (Server, World) {
    let server = Server::start("search-server").await;
    let more = "version: v7, required: [query], maxCandidates: 7";
    let tasks = [task("search", &[server.address], more), task("empty", &[], "head: search")];
    let world = World::start(&tasks.join(", ")).await;
    (server, world)
}

#[tokio::test]
async fn tasks_say_what_they_take_and_where_they_are() {
    let (server, world) = world().await;
    let tasks = world.get("/v1/tasks").await.json()["tasks"].clone();
    assert_eq!(
        tasks[0],
        json!({
            "name": "search", "head": "search", "description": "Finds",
            "modelVersion": "v7", "dataTime": "1998-04-23T00:10:38Z", "items": 1682,
            "context": [
                {"name": "query", "type": "text", "description": "What is sought", "default": "", "required": true, "trained": true},
                {"name": "user_id", "type": "id", "description": null, "default": null, "required": false, "trained": false},
            ],
            "attributes": [{"name": "genres", "type": "list<category>"}],
            "maxCandidates": 7,
            "timeout": {"default": "10s", "max": "20s"},
        })
    );
    assert_eq!((&tasks[1]["head"], &tasks[1]["modelVersion"]), (&json!("search"), &json!(null)));

    assert_eq!(world.rank("search").await.status, 200);
    let address = server.address.to_string();
    assert_eq!(
        world.get("/v1/tasks/search:resolve").await.json(),
        json!({
            "task": "search", "modelVersion": "v7", "timeout": {"default": "10s", "max": "20s"},
            "endpoints": [{"address": address, "weight": 1.0, "state": "up"}],
        })
    );
    let document = world.get("/openapi.yaml").await;
    assert_eq!(document.header("content-type"), Some("application/yaml"));
    assert!(document.body.starts_with(b"openapi: 3"));
}

#[tokio::test]
async fn answers_fit_the_document() {
    let (_server, world) = world().await;
    let document = world.get("/openapi.yaml").await;
    let mut document: serde_yaml::Value = serde_yaml::from_slice(&document.body).unwrap();
    document.apply_merge().unwrap();
    let document = serde_json::to_value(document).unwrap();
    for (path, url) in [
        ("/v1/tasks", "/v1/tasks"),
        ("/v1/tasks/{task}:resolve", "/v1/tasks/search:resolve"),
        ("/v2", "/v2"),
        ("/v2/models/{task}/stats", "/v2/models/search/stats"),
        ("/v2/health/ready", "/v2/health/ready"),
    ] {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let whole = json!({ "allOf": [schema], "components": document["components"] });
        let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
        let answer = world.get(url).await.json();
        let errors: Vec<_> = validator.iter_errors(&answer).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(schema.is_object() && errors.is_empty(), "{path}: {errors:?}: {answer}");
    }
}

#[tokio::test]
async fn open_inference_is_answered_as_by_one_server() {
    let (_server, world) = world().await;
    assert_eq!(world.get("/v2").await.json()["name"], "unimodel");
    assert_eq!(world.get("/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(world.get("/v2/health/ready").await.json(), json!({ "ready": true }));
    assert_eq!(world.get("/v2/models/search/ready").await.status, 200);
    let empty = world.get("/v2/models/empty/ready").await;
    assert_eq!((empty.status, empty.json()), (StatusCode::BAD_REQUEST, json!({ "name": "empty", "ready": false })));
    assert_eq!(world.get("/v2/models/search").await.json()["model_version"], "search-server");
    assert_eq!(world.get("/v2/models/empty").await.problem(), "not-ready");
    let index = world.post("/v2/repository/index", "{}").await.json();
    assert_eq!(index[0], json!({ "name": "search", "version": "v7", "state": "READY", "reason": "" }));
    assert_eq!(index[1]["state"], "UNAVAILABLE");
    let ready = world.post("/v2/repository/index", r#"{"ready": true}"#).await.json();
    assert_eq!(ready.as_array().unwrap().len(), 1);
    assert_eq!(world.rank("search").await.status, 200);
    let stats = world.get("/v2/models/search/stats").await.json();
    assert_eq!(stats["model_stats"][0]["inference_count"], 1);

    let mut client = pb::grpc_inference_service_client::GrpcInferenceServiceClient::new(world.channel().await);
    assert!(client.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert_eq!(client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap().into_inner().name, "unimodel");
    let ready = |name: &str| pb::ModelReadyRequest { name: name.into(), ..Default::default() };
    assert!(client.model_ready(ready("search")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("empty")).await.unwrap().into_inner().ready);
    assert_eq!(client.model_ready(ready("none")).await.unwrap_err().code(), tonic::Code::NotFound);
    let asked = pb::RepositoryIndexRequest { ready: true, ..Default::default() };
    let models = client.repository_index(asked).await.unwrap().into_inner().models;
    assert_eq!(models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["search"]);
    let stats = client.model_statistics(pb::ModelStatisticsRequest::default()).await.unwrap().into_inner();
    assert_eq!(stats.model_stats.len(), 2);
}

#[tokio::test]
async fn health_knows_tasks_and_reflection_knows_the_services() {
    let (_server, world) = world().await;
    let mut health = HealthClient::new(world.channel().await);
    let check = |service: &str| HealthCheckRequest { service: service.into() };
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("unimodel.v1.RankingService", ServingStatus::Serving),
        ("search", ServingStatus::Serving),
        ("empty", ServingStatus::NotServing),
    ] {
        assert_eq!(health.check(check(service)).await.unwrap().into_inner().status(), expected, "{service}");
    }
    assert_eq!(health.check(check("none")).await.unwrap_err().code(), tonic::Code::NotFound);

    let mut watched = health.watch(check("search")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    world.gateway.stop();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watched.message().await.unwrap().is_none());
    assert_eq!(world.get("/v2/health/ready").await.status, StatusCode::BAD_REQUEST);

    let mut reflection = ServerReflectionClient::new(world.channel().await);
    let list = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    assert!(list.service.iter().any(|service| service.name == "unimodel.v1.RankingService"));
}

#[tokio::test]
async fn no_server_is_said_with_its_reason() {
    let address = nobody().await;
    let world = World::start(&[task("search", &[address], ""), task("empty", &[], "")].join(", ")).await;
    let answer = world.rank("search").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not-ready"));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&address.to_string()) && detail.contains("refused"), "{detail}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let answer = world.client().await.rank(&request("empty")).await;
    assert_eq!(answer.code(), tonic::Code::Unavailable);
    let status = tonic::Status::from_header_map(&answer.headers).unwrap();
    assert!(status.message().contains("`empty`"), "{status}");
}

#[tokio::test]
async fn other_addresses_are_refused_in_the_form_of_their_protocol() {
    let (_server, world) = world().await;
    assert_eq!(world.get("/").await.problem(), "no-resource");
    let get = world.get("/v1/tasks/search:rank").await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, Some("POST")));
    let client = world.client().await;
    let sort = pb::ServerLiveRequest {}.encode_to_vec();
    assert_eq!(client.call("/unimodel.v1.RankingService/Sort", &sort, &[]).await.code(), tonic::Code::Unimplemented);
    let options = Request::options("/v1/tasks").body(Full::default()).unwrap();
    assert_eq!(client.send(options).await.status, 405);
}
