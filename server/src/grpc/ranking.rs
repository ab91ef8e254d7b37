//! `unimodel.v1.RankingService`.

use std::sync::Arc;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Timestamp};
use tonic::{Request, Response, Status, async_trait};
use unimodel_model::context::{Context, Value};
use unimodel_protocol::v1;
use unimodel_protocol::v1::ranking_service_server::RankingService;

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::grpc::unary;
use crate::ranking::Protocol;
use crate::request::{Asked, Misfit, Place, RankResponse};
use crate::timeout;

pub(super) struct RankingGrpc(pub(super) Arc<Front>);

#[async_trait]
impl RankingService for RankingGrpc {
    async fn rank(&self, request: Request<v1::RankRequest>) -> Result<Response<v1::RankResponse>, Status> {
        let front = &*self.0;
        let mut call = unary::call(Protocol::Grpc, &request);
        let result = ranked(front, &mut call, request).await;
        front.done(&call, &result);
        result.map(|response| unary::reply(response, encode)).map_err(|error| error.problem().status())
    }
}

async fn ranked(front: &Front, call: &mut Call, request: Request<v1::RankRequest>) -> Result<RankResponse, RankError> {
    let transport = timeout::from_headers(request.metadata().as_ref());
    let request = request.into_inner();
    if request.task.is_empty() {
        return Err(RankError::MissingTask { known: front.task_names() });
    }
    let task = front.task(call, &request.task)?;
    front.rank(call, &task, decode(request)?, transport?).await
}

fn decode(request: v1::RankRequest) -> Result<Asked, RankError> {
    let candidates = request.candidates.unwrap_or_default();
    let (context, context_misfit) = fields(request.context.unwrap_or_default(), Place::Context);
    let (select, select_misfit) = match candidates.select {
        Some(select) => {
            let (select, misfit) = fields(select, Place::Select);
            (Some(select), misfit)
        }
        None => (None, None),
    };
    let timeout = request.timeout.map(|timeout| {
        let invalid = |problem| RankError::InvalidTimeout { value: timeout.to_string(), problem };
        Duration::try_from(timeout).map_err(|_| invalid("is negative or out of range"))
    });
    Ok(Asked {
        context,
        misfit: context_misfit.or(select_misfit),
        ids: candidates.ids,
        select,
        all: candidates.all,
        exclude: candidates.exclude,
        limit: request.limit.map(u64::from),
        timeout: timeout.transpose()?,
    })
}

/// Elements or attributes by name, and the first of a type that none has.
fn fields(given: Struct, place: Place) -> (Context, Option<Misfit>) {
    let mut misfit = None;
    let values = given
        .fields
        .into_iter()
        .filter_map(|(name, value)| match field(value) {
            Ok(value) => Some((name, value)),
            Err(got) => {
                misfit.get_or_insert(Misfit { place, name, got });
                None
            }
        })
        .collect();
    (values, misfit)
}

fn field(value: prost_types::Value) -> Result<Value, &'static str> {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Ok(Value::Null),
        Some(Kind::NumberValue(number)) => Ok(Value::Number(number)),
        Some(Kind::StringValue(text)) => Ok(Value::Text(text)),
        Some(Kind::BoolValue(_)) => Err("a boolean"),
        Some(Kind::StructValue(_)) => Err("an object"),
        Some(Kind::ListValue(list)) => list
            .values
            .into_iter()
            .map(|item| match item.kind {
                Some(Kind::StringValue(text)) => Ok(text),
                _ => Err("a list with something else than strings"),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
    }
}

fn encode(response: RankResponse) -> v1::RankResponse {
    let time = response.data_time.as_nanosecond();
    // `nanos` counts forward, before 1970 too.
    let (seconds, nanos) = (time.div_euclid(1_000_000_000) as i64, time.rem_euclid(1_000_000_000) as i32);
    v1::RankResponse {
        items: response.items,
        task: response.task.to_string(),
        model_version: response.model_version.to_string(),
        data_time: Some(Timestamp { seconds, nanos }),
        imputed: response
            .imputed
            .iter()
            .map(|i| v1::ImputedElement { element: i.element.to_string(), source: i.source.name().to_owned() })
            .collect(),
        unknown: response.unknown,
        fallback: None,
    }
}
