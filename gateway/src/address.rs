//! What a request's path and method ask for.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::{Form, GatewayError};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// A ranking by REST; the task, where the path names it.
    Rank(Option<Cow<'a, str>>),
    /// A ranking by gRPC.
    GrpcRank,
    /// A ranking by Open Inference.
    Infer(Cow<'a, str>),
    /// A ranking by Open Inference over gRPC.
    GrpcInfer,
    /// What a task's servers say of it: `/v2/models/{task}`, with whether it is about readiness.
    Describe(Cow<'a, str>, Readiness),
    /// The same over gRPC.
    GrpcDescribe(Readiness),
    /// What the gateway knows itself.
    Own(Own<'a>),
    /// All tasks as models: the body says which.
    Index,
    /// Open Inference over gRPC that the gateway knows itself, by method.
    GrpcOwn(&'a str),
    /// `grpc.health.v1` and reflection.
    Service,
}

/// Whether a question is about readiness: then no server is an answer too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It is.
    Asked,
    /// It is not.
    Not,
}

/// What the gateway knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own<'a> {
    /// All tasks.
    Tasks,
    /// Where a caller may go directly.
    Resolve(Cow<'a, str>),
    /// The document of the API.
    OpenApi,
    /// Open Inference: the server.
    Metadata,
    /// It runs.
    Live,
    /// It answers.
    Ready,
    /// Counts of all tasks, or of one.
    Statistics(Option<Cow<'a, str>>),
    /// All tasks as models, or those that answer.
    Index {
        /// Those that answer.
        ready_only: bool,
    },
}

/// Looks at path and method.
///
/// # Errors
/// No such address, or another method; with the form that the caller reads.
pub fn find<'a>(method: &Method, path: &'a str) -> Result<Address<'a>, (Form, GatewayError)> {
    let no_resource = |form| {
        let path = path.chars().take(200).collect();
        Err((form, GatewayError::NoResource { method: method.to_string(), path }))
    };
    let (allow, form, address) = if let Some(rest) = path.strip_prefix("/v1/") {
        match rest {
            "rank" => ("POST", Form::Rest, Address::Rank(None)),
            "tasks" => ("GET", Form::Rest, Address::Own(Own::Tasks)),
            _ => {
                let Some(call) = rest.strip_prefix("tasks/").filter(|call| !call.contains('/')) else {
                    return no_resource(Form::Rest);
                };
                match split_call(decode(call)) {
                    Some((task, Verb::Rank)) => ("POST", Form::Rest, Address::Rank(Some(task))),
                    Some((task, Verb::Resolve)) => ("GET", Form::Rest, Address::Own(Own::Resolve(task))),
                    None => return no_resource(Form::Rest),
                }
            }
        }
    } else if path == "/v2" {
        ("GET", Form::InferenceRest, Address::Own(Own::Metadata))
    } else if let Some(rest) = path.strip_prefix("/v2/") {
        let segments: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let (allow, address) = match segments.as_slice() {
            [""] => ("GET", Address::Own(Own::Metadata)),
            ["health", "live"] => ("GET", Address::Own(Own::Live)),
            ["health", "ready"] => ("GET", Address::Own(Own::Ready)),
            ["models", "stats"] => ("GET", Address::Own(Own::Statistics(None))),
            ["repository", "index"] => ("POST", Address::Index),
            ["models", task] | ["models", task, "versions", _] => {
                ("GET", Address::Describe(decode(task), Readiness::Not))
            }
            ["models", task, call] | ["models", task, "versions", _, call] => match *call {
                "infer" => ("POST", Address::Infer(decode(task))),
                "ready" => ("GET", Address::Describe(decode(task), Readiness::Asked)),
                "config" => ("GET", Address::Describe(decode(task), Readiness::Not)),
                "stats" => ("GET", Address::Own(Own::Statistics(Some(decode(task))))),
                _ => return no_resource(Form::InferenceRest),
            },
            _ => return no_resource(Form::InferenceRest),
        };
        (allow, Form::InferenceRest, address)
    } else if path == "/openapi.yaml" {
        ("GET", Form::Rest, Address::Own(Own::OpenApi))
    } else if let Some(name) = path.strip_prefix("/inference.GRPCInferenceService/") {
        let address = match name {
            "ModelInfer" => Address::GrpcInfer,
            "ModelReady" => Address::GrpcDescribe(Readiness::Asked),
            "ModelMetadata" | "ModelConfig" => Address::GrpcDescribe(Readiness::Not),
            "ServerLive" | "ServerReady" | "ServerMetadata" | "ModelStatistics" | "RepositoryIndex" => {
                Address::GrpcOwn(name)
            }
            _ => return no_resource(Form::Grpc),
        };
        ("POST", Form::Grpc, address)
    } else if path == "/unimodel.v1.RankingService/Rank" {
        ("POST", Form::Grpc, Address::GrpcRank)
    } else if path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.v1") {
        ("POST", Form::Grpc, Address::Service)
    } else {
        // gRPC has two segments, of which the first is a package and a service.
        let is_grpc = path.matches('/').count() == 2 && path.split('/').nth(1).is_some_and(|s| s.contains('.'));
        return no_resource(if is_grpc { Form::Grpc } else { Form::Rest });
    };
    if method.as_str() == allow {
        Ok(address)
    } else {
        let error = GatewayError::MethodNotAllowed { method: method.to_string(), path: path.to_owned(), allow };
        Err((form, error))
    }
}

enum Verb {
    Rank,
    Resolve,
}

fn split_call(call: Cow<'_, str>) -> Option<(Cow<'_, str>, Verb)> {
    let (end, verb) = match call.rsplit_once(':')? {
        (task, "rank") => (task.len(), Verb::Rank),
        (task, "resolve") => (task.len(), Verb::Resolve),
        _ => return None,
    };
    let task = match call {
        Cow::Borrowed(call) => Cow::Borrowed(&call[..end]),
        Cow::Owned(mut call) => {
            call.truncate(end);
            Cow::Owned(call)
        }
    };
    Some((task, verb))
}

fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn post(path: &str) -> Result<Address<'_>, (Form, GatewayError)> {
        find(&Method::POST, path)
    }

    #[test]
    fn tasks_are_found_in_every_protocols_path() {
        let search = || Cow::Borrowed("search");
        assert_eq!(post("/v1/rank").unwrap(), Address::Rank(None));
        assert_eq!(post("/v1/tasks/search:rank").unwrap(), Address::Rank(Some(search())));
        assert_eq!(post("/v1/tasks/se%61rch%3Arank").unwrap(), Address::Rank(Some(search())));
        assert_eq!(post("/v1/tasks/a:b:rank").unwrap(), Address::Rank(Some("a:b".into())));
        assert_eq!(post("/v2/models/search/infer").unwrap(), Address::Infer(search()));
        assert_eq!(post("/v2/models/search/versions/1/infer").unwrap(), Address::Infer(search()));
        assert_eq!(post("/unimodel.v1.RankingService/Rank").unwrap(), Address::GrpcRank);
        assert_eq!(post("/inference.GRPCInferenceService/ModelInfer").unwrap(), Address::GrpcInfer);
        let get = |path| find(&Method::GET, path).unwrap();
        assert_eq!(get("/v2/models/search"), Address::Describe(search(), Readiness::Not));
        assert_eq!(get("/v2/models/search/versions/1/ready"), Address::Describe(search(), Readiness::Asked));
        assert_eq!(get("/v2/models/stats"), Address::Own(Own::Statistics(None)));
        assert_eq!(get("/v1/tasks/search:resolve"), Address::Own(Own::Resolve(search())));
    }

    #[test]
    fn other_addresses_and_methods_are_refused_in_the_callers_form() {
        let kind = |method: Method, path| {
            let (form, error) = find(&method, path).unwrap_err();
            (form, error.kind().name)
        };
        for path in ["/", "/v1", "/v1/tasks/search", "/v1/tasks/a/b:rank", "/v1/ranks", "/index.html"] {
            assert_eq!(kind(Method::POST, path), (Form::Rest, "no-resource"), "{path}");
        }
        assert_eq!(kind(Method::POST, "/v2/models/search/explain"), (Form::InferenceRest, "no-resource"));
        assert_eq!(kind(Method::POST, "/unimodel.v1.RankingService/Sort"), (Form::Grpc, "no-resource"));
        assert_eq!(kind(Method::POST, "/inference.GRPCInferenceService/Sort"), (Form::Grpc, "no-resource"));
        assert_eq!(kind(Method::GET, "/v1/tasks/search:rank"), (Form::Rest, "method-not-allowed"));
        assert_eq!(kind(Method::DELETE, "/v2/models/search/infer"), (Form::InferenceRest, "method-not-allowed"));
        assert_eq!(kind(Method::GET, "/unimodel.v1.RankingService/Rank"), (Form::Grpc, "method-not-allowed"));
    }
}
