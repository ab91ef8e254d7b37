"""kserve's inference clients, by REST and gRPC.

Usage: kserve_client.py ADDRESS TASK ITEM_ID ITEM_ID
"""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

address, task, first, second = sys.argv[1:]


def request(binary):
    ids = InferInput("item_ids", [3], "BYTES")
    ids.set_data_from_numpy(np.array([first, second, "no-such-item"], dtype=object), binary_data=binary)
    names = ("scores", "item_ids", "unknown_ids")
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in names]
    return InferRequest(task, [ids], request_id="7", parameters={"limit": 2}, request_outputs=outputs)


def read(response):
    assert response.model_name == task and response.id == "7", response
    outputs = {output.name: output for output in response.outputs}
    text = lambda output: [x.decode() if isinstance(x, bytes) else x for x in output.as_numpy().tolist()]
    assert text(outputs["unknown_ids"]) == ["no-such-item"], outputs
    items = text(outputs["item_ids"])
    assert sorted(items) == sorted([first, second]), items
    return items, outputs["scores"].as_numpy().astype(np.float32)


async def by_rest():
    url = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, task)
        assert not await client.is_model_ready(url, "no-such-task")
        answers = [read(await client.infer(url, request(binary), model_name=task)) for binary in (False, True)]
        assert answers[0][0] == answers[1][0] and np.array_equal(answers[0][1], answers[1][1]), answers
        try:
            await client.infer(url, request(False), model_name="no-such-task")
        except httpx.HTTPStatusError as error:
            assert "unknown task `no-such-task`" in str(error) and error.response.status_code == 404, error
        else:
            raise AssertionError("an unknown task is not refused")
    print("kserve REST: ok")
    return answers[0]


async def by_grpc():
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready(task)
        answer = read(await client.infer(request(False), timeout=5))
        raw = read(await client.infer(request(True), timeout=5))
        assert answer[0] == raw[0] and np.array_equal(answer[1], raw[1])
    print("kserve gRPC: ok")
    return answer


async def main():
    rest, grpc = await by_rest(), await by_grpc()
    assert rest[0] == grpc[0] and np.array_equal(rest[1], grpc[1])


asyncio.run(main())
