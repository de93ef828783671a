"""The worker process of encoders with a model in TensorFlow Lite or ONNX: maps windows to embeddings, and answers requests line by line.

The Python of the isolated environment executes this file with `-I`, so it imports nothing of this package. Requests and replies are JSON,
one per line; arrays are in files. The first request names the model. An error ends the process with the reason on stderr.
"""

import json
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class TfliteModel:
    """A TensorFlow Lite model whose embedding is the tensor before its output, as in BirdNET.

    Args:
        path: the `.tflite` file.
    """

    def __init__(self, path: str):
        from ai_edge_litert.interpreter import Interpreter

        with warnings.catch_warnings():
            # It warns that preserved tensors need memory. Without them, the tensor of the embedding is overwritten.
            warnings.simplefilter("ignore", UserWarning)
            self._interpreter: Any = Interpreter(model_path=path, num_threads=1, experimental_preserve_all_tensors=True)
        self._interpreter.allocate_tensors()
        [inputs], [scores] = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input, self._output = inputs["index"], scores["index"] - 1
        output = {d["index"]: d for d in self._interpreter.get_tensor_details()}[self._output]
        self.samples, self.dimensions = inputs["shape"][-1], output["shape"][-1]

    def embed(self, window: Any) -> Any:
        """Map a window, (samples,) float32, to its embedding, (dimensions,) float32."""
        self._interpreter.set_tensor(self._input, window[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0].copy()


class OnnxModel:
    """An ONNX model with the input `inputs` and the output `embedding`, as Perch.

    Args:
        path: the `.onnx` file.
    """

    def __init__(self, path: str):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        shapes = {tensor.name: tensor.shape for tensor in (*self._session.get_inputs(), *self._session.get_outputs())}
        self.samples, self.dimensions = shapes.get("inputs", [None])[-1], shapes.get("embedding", [None])[-1]

    def embed(self, window: Any) -> Any:
        """Map a window, (samples,) float32, to its embedding, (dimensions,) float32."""
        [embeddings] = self._session.run(["embedding"], {"inputs": window[None]})
        return embeddings[0]


def load(runtime: str, path: str, samples: int, dimensions: int) -> TfliteModel | OnnxModel:
    """Load a model.

    Args:
        runtime: "tflite" or "onnx".
        path: its file.
        samples: samples of a window, to which the file must agree.
        dimensions: length of an embedding, to which the file must agree.
    """
    model = TfliteModel(path) if runtime == "tflite" else OnnxModel(path)
    if (model.samples, model.dimensions) != (samples, dimensions):
        sys.exit(
            f"{path} must map {samples} samples to an embedding of {dimensions} numbers, got {model.samples} and {model.dimensions}"
        )
    return model


def main() -> None:
    """Answer requests until stdin ends."""
    import numpy as np

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print to stdout; that must not mix with replies

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")
        replies.flush()

    settings = json.loads(sys.stdin.readline())
    arguments = [settings[name] for name in ("runtime", "model", "samples", "dimensions")]
    of_thread = threading.local()  # a model computes one window at a time, so each thread has its own

    def embed(window: Any) -> Any:
        if not hasattr(of_thread, "model"):
            of_thread.model = load(*arguments)
        return of_thread.model.embed(window)

    load(*arguments)  # a wrong file fails here, not later
    with ThreadPoolExecutor(settings["threads"]) as threads:
        reply(dimensions=settings["dimensions"])
        for line in sys.stdin:
            request = json.loads(line)
            with np.load(request["clips"]) as clips:
                windows = [clips[f"arr_{i}"] for i in range(len(clips))]
            vectors = np.stack(list(threads.map(embed, windows)))
            np.save(request["vectors"], vectors)
            reply(done=len(vectors))


if __name__ == "__main__":
    main()
