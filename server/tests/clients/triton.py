"""tritonclient, by HTTP and gRPC: everything that it asks of a server which this one has.

Usage: triton.py ADDRESS TASK ITEM_ID ITEM_ID PROTOSET
"""

import sys

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.model_config_pb2
import tritonclient.grpc.service_pb2
import tritonclient.http
from google.protobuf import descriptor_pb2
from tritonclient.utils import InferenceServerException

address, task, first, second, protoset = sys.argv[1:]


def inputs(client):
    """Two candidates that the model knows and one that it does not, and one context element that every model has."""
    ids = client.InferInput("item_ids", [3], "BYTES")
    ids.set_data_from_numpy(np.array([first, second, "no-such-item"], dtype=object))
    return [ids]


def check_answer(answer, expected_version):
    items = [item.decode() for item in answer.as_numpy("item_ids")]
    scores = answer.as_numpy("scores")
    assert sorted(items) == sorted([first, second]), items
    assert scores.dtype == np.float32 and scores.shape == (2,) and scores[0] >= scores[1], scores
    assert answer.as_numpy("unknown_ids").tolist() == [b"no-such-item"]
    response = answer.get_response()
    version = response["model_version"] if isinstance(response, dict) else response.model_version
    assert version == expected_version, version
    return items, scores


def check_refused(ask, part, status):
    try:
        ask()
    except InferenceServerException as error:
        assert part in error.message(), error
        assert error.status() == status, error
    else:
        raise AssertionError(f"not refused: {part}")


def check(module):
    client = module.InferenceServerClient(address)
    rest = module is tritonclient.http
    plain = {} if rest else {"as_json": True}
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(task)

    assert client.get_server_metadata(**plain)["name"] == "unimodel"
    metadata = client.get_model_metadata(task, **plain)
    version = metadata["versions"][0]
    assert client.is_model_ready(task, version)
    assert "item_ids" in [tensor["name"] for tensor in metadata["inputs"]], metadata
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["scores", "item_ids", "unknown_ids"]
    config = client.get_model_config(task, **plain)
    config = config if rest else config["config"]
    assert [tensor["name"] for tensor in config["input"]] == [tensor["name"] for tensor in metadata["inputs"]]
    index = client.get_model_repository_index(**plain)
    index = index if rest else index["models"]
    assert [model["state"] for model in index if model["name"] == task] == ["READY"], index

    answer = check_answer(client.infer(task, inputs(module), request_id="7"), version)
    check_answer(client.infer(task, inputs(module), model_version=version, timeout=5_000_000), version)
    integers = module.InferInput("item_ids", [1, 2], "INT64")
    integers.set_data_from_numpy(np.array([[int(first), int(second)]]))
    requested = [module.InferRequestedOutput("item_ids")]
    items = client.infer(task, [integers], outputs=requested, parameters={"limit": 1}).as_numpy("item_ids")
    assert [item.decode() for item in items] == answer[0][:1], items
    if rest:
        as_json = inputs(module)
        as_json[0].set_data_from_numpy(np.array([first, second, "no-such-item"], dtype=object), binary_data=False)
        requested = [
            module.InferRequestedOutput(name, binary_data=False) for name in ("scores", "item_ids", "unknown_ids")
        ]
        outputs = client.infer(task, as_json, outputs=requested).get_response()["outputs"]
        assert outputs[1]["data"] == answer[0], outputs
        many = [client.async_infer(task, inputs(module)) for _ in range(20)]
        answers = [check_answer(one.get_result(), version) for one in many]
        assert all(one[0] == answer[0] for one in answers)

    statistics = client.get_inference_statistics(task, **plain)["model_stats"][0]
    assert int(statistics["inference_stats"]["success"]["count"]) > 0, statistics
    assert client.get_inference_statistics(**plain)["model_stats"]

    not_found, invalid = ("404", "400") if rest else ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT")
    check_refused(lambda: client.infer("no-such-task", inputs(module)), "unknown task", not_found)
    check_refused(lambda: client.infer(task, inputs(module), model_version="0"), "does not answer", not_found)
    twice = module.InferInput("item_ids", [2], "BYTES")
    twice.set_data_from_numpy(np.array([first, first], dtype=object))
    check_refused(lambda: client.infer(task, [twice]), "comes twice", invalid)
    unknown = module.InferInput("no_such_element", [1], "BYTES")
    unknown.set_data_from_numpy(np.array(["x"], dtype=object))
    check_refused(lambda: client.infer(task, [unknown]), "unknown context element", invalid)
    print(f"{module.__name__}: ok")
    return answer


def fields(message, scope=""):
    """Number, type and label of every field of a message and of those in it."""
    scope = f"{scope}.{message.name}" if scope else message.name
    for field in message.field:
        yield f"{scope}.{field.name}", (field.number, field.type, field.label, field.type_name)
    for nested in message.nested_type:
        yield from fields(nested, scope)


def check_wire():
    """Every message and field of ours is, with its number and type, in the definitions that the client was made from."""
    with open(protoset, "rb") as file:
        ours = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    theirs = {}
    enums = {}
    for module in (tritonclient.grpc.service_pb2, tritonclient.grpc.model_config_pb2):
        definition = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in definition.message_type:
            theirs.update(fields(message))
        enums.update({enum.name: {v.name: v.number for v in enum.value} for enum in definition.enum_type})
    count = 0
    for file in ours.file:
        if file.package != "inference":
            continue
        for message in file.message_type:
            for name, field in fields(message):
                assert theirs.get(name) == field, (name, field, theirs.get(name))
                count += 1
        for enum in file.enum_type:
            assert {v.name: v.number for v in enum.value} == enums[enum.name], enum.name
    assert count > 80, count
    print(f"{count} fields agree with the client's definitions: ok")


by_http = check(tritonclient.http)
by_grpc = check(tritonclient.grpc)
assert by_http[0] == by_grpc[0] and np.array_equal(by_http[1], by_grpc[1])
check_wire()
