//! `inference.GRPCInferenceService`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status, async_trait};
use unimodel_protocol::inference as pb;
use unimodel_protocol::inference::grpc_inference_service_server::GrpcInferenceService;
use unimodel_protocol::inference::infer_parameter::ParameterChoice;

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::grpc::unary;
use crate::oip::describe;
use crate::oip::infer::{self, Parameter, Parameters};
use crate::oip::tensor::{Data, DataType, Tensor, invalid};
use crate::ranking::Protocol;
use crate::request::{RankResponse, Task, Version};
use crate::timeout;

pub(crate) struct InferenceGrpc(pub(crate) Arc<Front>);

impl InferenceGrpc {
    fn described<T>(
        &self,
        model: &str,
        version: &str,
        describe: impl FnOnce(&Task, &Version) -> T,
    ) -> Result<Response<T>, Status> {
        let mut call = Call::new(Protocol::InferenceGrpc);
        self.0
            .task(&mut call, model)
            .and_then(|task| describe::version(&self.0, &task, version).map(|version| describe(&task, version)))
            .map(Response::new)
            .map_err(|error| error.problem().status())
    }
}

#[async_trait]
impl GrpcInferenceService for InferenceGrpc {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Result<Response<pb::ServerLiveResponse>, Status> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        Ok(Response::new(pb::ServerReadyResponse { ready: describe::is_ready(&self.0) }))
    }

    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        let request = request.get_ref();
        match self.described(&request.name, &request.version, |_, _| describe::is_ready(&self.0)) {
            Ok(ready) => Ok(ready.map(|ready| pb::ModelReadyResponse { ready })),
            Err(status) if status.code() == tonic::Code::Unavailable => {
                Ok(Response::new(pb::ModelReadyResponse { ready: false }))
            }
            Err(status) => Err(status),
        }
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: describe::NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: describe::EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        let request = request.get_ref();
        self.described(&request.name, &request.version, describe::metadata)
    }

    async fn model_config(
        &self,
        request: Request<pb::ModelConfigRequest>,
    ) -> Result<Response<pb::ModelConfigResponse>, Status> {
        let request = request.get_ref();
        self.described(&request.name, &request.version, |task, version| pb::ModelConfigResponse {
            config: Some(describe::config(task, version)),
        })
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Result<Response<pb::ModelStatisticsResponse>, Status> {
        let request = request.get_ref();
        if request.name.is_empty() {
            let tasks = self.0.ranking.tasks();
            let model_stats = tasks.iter().map(|task| describe::statistics(&self.0, task)).collect();
            return Ok(Response::new(pb::ModelStatisticsResponse { model_stats }));
        }
        self.described(&request.name, &request.version, |task, _| pb::ModelStatisticsResponse {
            model_stats: vec![describe::statistics(&self.0, task)],
        })
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Result<Response<pb::RepositoryIndexResponse>, Status> {
        let models = describe::index(&self.0, request.get_ref().ready);
        Ok(Response::new(pb::RepositoryIndexResponse { models }))
    }

    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        let front = &*self.0;
        let mut call = unary::call(Protocol::InferenceGrpc, &request);
        let result = inferred(front, &mut call, request).await;
        front.done(&call, &result);
        result
            .map_err(|error| error.problem().status())
            .map(|Inferred { response, id, names }| unary::reply(response, |response| write(response, id, &names)))
    }
}

/// A ranking, and how it is to be written.
struct Inferred {
    response: RankResponse,
    id: String,
    names: Vec<&'static str>,
}

async fn inferred(
    front: &Front,
    call: &mut Call,
    request: Request<pb::ModelInferRequest>,
) -> Result<Inferred, RankError> {
    let transport = timeout::from_headers(request.metadata().as_ref());
    let request = request.into_inner();
    let task = front.task(call, &request.model_name)?;
    let version = describe::version(front, &task, &request.model_version)?;

    let mut parameters = Parameters::default();
    for (name, value) in &request.parameters {
        parameters.set(name, &parameter(value))?;
    }
    let mut names = Vec::new();
    for requested in &request.outputs {
        no_shared_memory(&requested.name, &requested.parameters)?;
        names.push(infer::output(&requested.name)?);
    }
    let inputs = tensors(request.inputs, &request.raw_input_contents)?;
    let asked = infer::ask(inputs, &parameters, &version.schema)?;

    let response = front.rank(call, &task, asked, transport?).await?;
    describe::is_asked(&task, &request.model_version, &response.model_version)?;
    Ok(Inferred { response, id: request.id, names })
}

fn write(response: RankResponse, id: String, names: &[&'static str]) -> pb::ModelInferResponse {
    let (model_name, model_version) = (response.task.to_string(), response.model_version.to_string());
    let outputs = infer::outputs(response, names);
    pb::ModelInferResponse {
        model_name,
        model_version,
        id,
        parameters: HashMap::new(),
        raw_output_contents: outputs.iter().map(|output| Bytes::from(output.raw())).collect(),
        outputs: outputs
            .iter()
            .map(|output| pb::model_infer_response::InferOutputTensor {
                name: output.name.to_owned(),
                datatype: output.datatype().to_owned(),
                shape: vec![output.len() as i64],
                parameters: HashMap::new(),
                contents: None,
            })
            .collect(),
    }
}

fn tensors(inputs: Vec<pb::model_infer_request::InferInputTensor>, raw: &[Bytes]) -> Result<Vec<Tensor>, RankError> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let problem = format!("{} raw_input_contents for {} inputs; give one each, or none", raw.len(), inputs.len());
        return Err(RankError::invalid_body(problem));
    }
    let mut raw = raw.iter();
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        let kind = DataType::parse(&input.name, &input.datatype)?;
        no_shared_memory(&input.name, &input.parameters)?;
        let data = match (raw.next(), input.contents) {
            (Some(_), Some(_)) => return Err(invalid(&input.name, "both contents and raw_input_contents")),
            (Some(raw), None) => Data::from_raw(&input.name, kind, raw)?,
            (None, contents) => typed(&input.name, kind, contents.unwrap_or_default())?,
        };
        tensors.push(Tensor::new(input.name, &input.shape, data)?);
    }
    Ok(tensors)
}

fn typed(tensor: &str, kind: DataType, contents: pb::InferTensorContents) -> Result<Data, RankError> {
    Ok(match kind {
        DataType::Bytes => Data::from_strings(tensor, &contents.bytes_contents)?,
        DataType::Int32 => Data::Integers(contents.int_contents.into_iter().map(i64::from).collect()),
        DataType::Int64 => Data::Integers(contents.int64_contents),
        DataType::Fp32 => Data::Numbers(contents.fp32_contents.into_iter().map(f64::from).collect()),
        DataType::Fp64 => Data::Numbers(contents.fp64_contents),
    })
}

fn parameter(value: &pb::InferParameter) -> Parameter {
    match &value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(*value),
        Some(ParameterChoice::Int64Param(value)) => Parameter::Integer(*value),
        Some(ParameterChoice::Uint64Param(value)) => i64::try_from(*value).map_or(Parameter::Other, Parameter::Integer),
        Some(ParameterChoice::StringParam(value)) => Parameter::Text(value.clone()),
        Some(ParameterChoice::DoubleParam(_)) | None => Parameter::Other,
    }
}

fn no_shared_memory(tensor: &str, parameters: &HashMap<String, pb::InferParameter>) -> Result<(), RankError> {
    if parameters.contains_key("shared_memory_region") {
        return Err(invalid(tensor, "shared memory is not supported"));
    }
    Ok(())
}
