"""ONNX Runtime as a rival of this benchmark: one command a line on the standard input, one answer a line.

`load NAME WIDTH...`                    an MLP with ReLU between its layers; answers `ok VERSION`
`time NAME ROWS REPEATS`                seconds of so many calls on one thread
`rate NAME ROWS SECONDS WORKERS`        rows a second of that many threads with a session each
`pin CORE`                              keeps the process on a core, or lets it go with -1
"""

import os
import sys
import threading
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


def mlp(widths):
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        weight = (random.standard_normal((inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
        bias = (random.standard_normal(outputs) * 0.1).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
        last = f"g{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"r{layer}"]))
            last = f"r{layer}"
    tensor = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
    graph = helper.make_graph(nodes, "mlp", [tensor("x", widths[0])], [tensor(last, widths[-1])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


class Caller:
    """A session of one thread with its input and output bound once, which leaves the least to Python."""

    def __init__(self, model, widths, rows):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.x = np.random.default_rng(1).standard_normal((rows, widths[0])).astype(np.float32)
        self.out = np.zeros((rows, widths[-1]), np.float32)
        self.binding = self.session.io_binding()
        self.binding.bind_cpu_input("x", self.x)
        name = self.session.get_outputs()[0].name
        self.binding.bind_output(name, "cpu", 0, np.float32, self.out.shape, self.out.ctypes.data)

    def repeat(self, times):
        session, binding = self.session, self.binding
        for _ in range(times):
            session.run_with_iobinding(binding)


def rate(callers, rows, seconds):
    counts = [0] * len(callers)
    end = time.perf_counter() + seconds

    def work(index):
        while time.perf_counter() < end:
            callers[index].repeat(1)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(callers))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return rows * sum(counts) / seconds


def main():
    models, callers = {}, {}
    everywhere = os.sched_getaffinity(0)

    def caller(name, rows, worker):
        key = (name, rows, worker)
        if key not in callers:
            callers[key] = Caller(*models[name], rows)
        return callers[key]

    for line in sys.stdin:
        command, *words = line.split()
        if command == "load":
            widths = [int(word) for word in words[1:]]
            models[words[0]] = (mlp(widths), widths)
            answer = f"ok {ort.__version__}"
        elif command == "pin":
            core = int(words[0])
            os.sched_setaffinity(0, {core} if core >= 0 else everywhere)
            answer = "ok"
        elif command == "time":
            one, repeats = caller(words[0], int(words[1]), 0), int(words[2])
            one.repeat(1 + repeats // 10)
            start = time.perf_counter()
            one.repeat(repeats)
            answer = time.perf_counter() - start
        elif command == "rate":
            rows, seconds, workers = int(words[1]), float(words[2]), int(words[3])
            answer = rate([caller(words[0], rows, worker) for worker in range(workers)], rows, seconds)
        else:
            sys.exit(f"error: unknown command `{command}`")
        print(answer, flush=True)


main()
