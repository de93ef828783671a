"""The base class of all encoders, and the stage that writes their `embeddings` table.

Belongs here: what a family must implement, and what all families share. Does not belong here: weight files (`weights`),
loading of models (`pretrained`), devices and batches (`torch_batches`).
"""

import io
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.contracts.work import Compute, Failure, Rows
from vlm_audio_pipeline.datasets.base import ClipRow, Recordings
from vlm_audio_pipeline.datasets.perturbation import Perturbation, perturbed_stage
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.vectors import pack_vector
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.storage.data_folder import DataFolder

if TYPE_CHECKING:
    from PIL.Image import Image

Encode = Callable[[Sequence[Any]], Sequence[np.ndarray]]
"""Items -> vectors, each (dimensions,) float32. Items are RGB images where the encoder takes images, otherwise samples
(n,) float32 mono at `sample_rate_hz`."""

_MAX_MEAN_DURATION_S = 30.0  # mean duration of the clips of a full batch; batches of longer clips are smaller


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder of a model that embeds audio or images and texts in one space.

    Attributes:
        encode: texts -> vectors, each (dimensions,) float32 of length 1.
        logit_scale: the model's inverse temperature: label probabilities are softmax(logit_scale * cosine(clip, label)).
    """

    encode: Callable[[Sequence[str]], Sequence[np.ndarray]]
    logit_scale: float


class EncoderSpec(Spec):
    """Base class of all encoders. A family adds its parameters and implements `load`.

    A family sets `step_version` (increase it whenever the code computes other vectors) and `sample_rate_hz`. A family that
    takes images sets `takes_images` and has a field `rendering: str = refers_to("renderings")`. A family with a text
    encoder overrides `has_text_encoder` and `load_text_encoder`.
    """

    step_version: ClassVar[int] = 1
    takes_images: ClassVar[bool] = False
    batch_size: int = excluded_from_fingerprint(16, ge=1)
    """Clips per call of the encoder."""

    @property
    @abstractmethod
    def sample_rate_hz(self) -> int:
        """Sample rate of the model's input, Hz; 0 for an encoder that takes images."""

    @property
    def image_rendering(self) -> str | None:
        """Name of the rendering whose images it takes; None for an encoder of audio."""
        return vars(self)["rendering"] if self.takes_images else None

    @property
    def normalises_peak(self) -> bool:
        """Whether clips are scaled to a peak of full scale first (see `AudioEncoder`)."""
        return False

    @property
    def card(self) -> ModelCard:
        """Licence, publication and training data of the model."""
        return ModelCard(title=f"{self.kind}: computed, without weights", training_data="none")

    @property
    def weights(self) -> Weights | None:
        """Files of the model; None for an encoder without weights."""
        return None

    @property
    def model_id(self) -> str:
        """Model id on the hub, or the kind of an encoder without weights."""
        return self.weights.model if self.weights else self.kind

    @property
    def weights_revision(self) -> str | None:
        """Hub commit or digest of the weights; None without weights."""
        return self.weights.resolve() if self.weights else None

    @property
    def number_format(self) -> str:
        """Number format of the computation. It is part of a result key; the device is not."""
        return "float32"

    @property
    def max_parallel(self) -> int | None:
        """Maximum number of parallel batches; None for one per core. Encoders on a GPU return 1."""
        return None

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if the machine has one."""
        return False

    @property
    def has_text_encoder(self) -> bool:
        """Whether it can embed texts in the space of its vectors."""
        return False

    def unavailable(self) -> str | None:
        """Return why the encoder cannot run on this machine (weights missing), or None."""
        return self.weights.missing() if self.weights else None

    def fetch(self, data_folder: DataFolder, progress: Progress = no_progress) -> None:
        """Download the files that the encoder needs and that are not on this machine. Only `vlm-audio fetch` does this, never a run.

        Raises:
            NotAvailable: if the download fails.
        """
        if self.weights:
            fetch_weights(self.weights, progress)

    @abstractmethod
    def load(self) -> Encode:
        """Load the model and return the function from items to vectors; called only if there is something to compute."""

    def load_text_encoder(self) -> TextEncoder:
        """Load the text encoder; only if `has_text_encoder`."""
        raise no_text_encoder_error(self)

    def stages(self, name: str) -> list[Stage]:
        """Return the stages of this encoder; `name` is its name in the study."""
        return [self._stage()]

    def controlled_stage(self, name: str, control: str) -> Stage:
        """Return the stage that encodes the images of a control; its component is `<name>__<control>`.

        Args:
            name: name of the encoder in the study.
            control: "blank", "time_shuffled" or "other_clip", or the name of a perturbation.

        Raises:
            VlmAudioError: for an encoder that does not take images.
        """
        if not self.takes_images:
            raise VlmAudioError(
                f"control '{control}' replaces images, but encoder '{name}' of kind {self.kind} takes no images; remove '{control}'"
            )
        return self._stage(control)

    def perturbed_stage(self, name: str, perturbation: Perturbation) -> Stage:
        """Return the stage that encodes changed audio, or its images; its component is `<name>__<name of the perturbation>`."""
        if self.takes_images:
            return self.controlled_stage(name, perturbation.name)
        return perturbed_stage(self._stage(), perturbation)

    def _stage(self, control: str | None = None) -> Stage:
        inputs: tuple[Input, ...] = (Input("clips"),)
        items = f"mono samples at {self.sample_rate_hz} Hz"
        if self.image_rendering is not None:
            rendering = controlled_name(self.image_rendering, control) if control else self.image_rendering
            inputs, items = (*inputs, Input("spectrograms", rendering)), f"images of rendering '{rendering}'"
        if self.weights:
            inputs = (*inputs, self.weights.input_asset)
        return Stage(
            asset="embeddings",
            tables=("embeddings",),
            version=self.step_version,
            parameters={**self.fingerprint_fields(), "dtype": self.number_format},
            inputs=inputs,
            run=self._embed,
            run_ahead=self._embed_ahead,
            description=f"Vectors of {self.kind} ({self.model_id}): one float32 vector per clip, from {items}.",
            accelerator=self.accelerator,
            unavailable=self.unavailable,
        )

    def vector_parameters(self) -> dict[str, Any]:
        """Return the parameters that change a vector of a clip or text: all except the name of the rendering."""
        return {k: v for k, v in self.fingerprint_fields().items() if k != "rendering"}

    def result_key(self, content_sha256: str) -> str:
        """Return the result key of a vector. The image's content is part of it, the name of its rendering is not."""
        parameters, revision, dtype = self.vector_parameters(), self.weights_revision, self.number_format
        return fingerprint("vector", self.step_version, parameters, revision, dtype, content_sha256, length=64)

    def check_revision(self, expected: str | None) -> None:
        """Check that the weights still have the revision that the result keys were computed with.

        Raises:
            VlmAudioError: if they changed, because the loaded model may have either revision.
        """
        if (current := self.weights_revision) != expected:
            raise VlmAudioError(
                f"the weights of {self.model_id} changed from revision {expected} to {current} while they were loaded; "
                "run again"
            )

    def _rows(self, context: StageContext) -> Rows:
        """Return the vectors to compute; an item is a row of `clips`, or the bytes of an image."""
        clips, images = context.inputs["clips"].to_pylist(), self._images(context)
        rows, content_of = [ClipRow.from_row(c) for c in clips], context.dataset.recordings.content_sha256
        contents = [images[row.clip][0] if self.takes_images else content_of(row) for row in rows]
        key_of_content = {sha256: self.result_key(sha256) for sha256 in dict.fromkeys(contents)}
        return Rows(
            [key_of_content[sha256] for sha256 in contents],
            [images[row.clip][1] if self.takes_images else row for row in rows],
            EncoderWork(self.with_device(), self.weights_revision, context.dataset.recordings),
            kind="vector",
            batch_size=self.batch_size,
            sizes=None if self.takes_images else [row.duration_s for row in rows],
            max_total_size=_MAX_MEAN_DURATION_S * self.batch_size,
        )

    def _embed_ahead(self, contexts: Sequence[StageContext]) -> None:
        first = contexts[0]
        first.engine.map_rows([self._rows(c) for c in contexts], first.result_store, first.progress)

    def _embed(self, context: StageContext) -> dict[str, pa.Table]:
        clips, revision, rows = context.inputs["clips"]["clip"].to_pylist(), self.weights_revision, self._rows(context)
        try:
            [payloads] = context.engine.map_rows([rows], context.result_store, context.progress)
        except NotAvailable as error:
            raise NotAvailable(f"{error}; needed by embeddings/{context.name}") from error
        failed = [f"{clip}: {p.reason}" for clip, p in zip(clips, payloads, strict=True) if isinstance(p, Failure)]
        if failed:
            raise VlmAudioError(f"encoder '{context.name}' could not compute a vector for every clip, failed: {failed}")
        vectors = [np.frombuffer(p, dtype="<f4") for p in payloads if isinstance(p, bytes)]
        n = len(clips)
        return {
            "embeddings": pa.table(
                {
                    "clip": clips,
                    "vector": pa.array(vectors, pa.list_(pa.float32())),
                    "dimensions": pa.array([len(v) for v in vectors], pa.int64()),
                    "model": [self.model_id] * n,
                    "revision": pa.array([revision] * n, pa.string()),
                    "dtype": [self.number_format] * n,
                    "result_key": rows.keys,
                }
            )
        }

    def _images(self, context: StageContext) -> dict[str, tuple[str, bytes]]:
        """Return the image of every clip: clip -> (SHA-256, encoded bytes); {} for an encoder of audio."""
        if not self.takes_images:
            return {}
        [table] = [t for key, t in context.inputs.items() if key.startswith("spectrograms/")]
        columns = (table[c].to_pylist() for c in ("clip", "image_sha256", "image"))
        images = {clip: (sha256, data) for clip, sha256, data in zip(*columns, strict=True)}
        missing = sorted(set(context.inputs["clips"]["clip"].to_pylist()) - set(images))
        if missing:
            raise VlmAudioError(f"these clips have no image: {missing[:10]}; run the rendering again")
        return images


@dataclass(frozen=True)
class EncoderWork:
    """Computes the vectors of clips or images; see `contracts.work.Work`.

    Attributes:
        spec: the encoder, with its device fixed.
        revision: revision of the weights, part of the result keys.
        recordings: where the samples of clips are read.
    """

    spec: EncoderSpec
    revision: str | None
    recordings: Recordings

    @property
    def key(self) -> str:
        """Hash of the parameters, the revision, the device and the number format."""
        spec = self.spec
        device = "cuda" if self.uses_gpu else "cpu"
        return fingerprint(
            "encoder",
            spec.step_version,
            spec.vector_parameters(),
            spec.model_id,
            self.revision,
            device,
            spec.number_format,
        )

    @property
    def uses_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.spec.accelerator

    @property
    def max_parallel(self) -> int | None:
        """Batches at the same time on one machine."""
        return self.spec.max_parallel

    def files_of(self, item: "ClipRow | bytes") -> tuple[Path, ...]:
        """Return the recording of a clip; an image is in the item."""
        return () if isinstance(item, bytes) else self.recordings.files(item)

    def prepare(self, item: "ClipRow | bytes") -> "np.ndarray | Image":
        """Read the samples of a clip, or decode an image."""
        if isinstance(item, bytes):
            return decode_image(item)
        options = {"normalises_peak": True} if self.spec.normalises_peak else {}
        return self.recordings.samples(item, self.spec.sample_rate_hz, **options)

    def open(self) -> Compute:
        """Load the model.

        Raises:
            NotAvailable: if weights or device are missing.
            VlmAudioError: if the weights have another revision than the result keys.
        """
        encode = self.spec.load()
        self.spec.check_revision(self.revision)
        return lambda batch: [pack_vector(vector) for vector in encode(batch)]


class AudioEncoder(EncoderSpec):
    """Base class of the encoders of audio."""

    peak_normalise: bool = False
    """Scale each clip to a peak of full scale and cut it to 16 bits before it is resampled, as programs do that first write a 16-bit WAV file; false: the recorded level."""

    @property
    def normalises_peak(self) -> bool:
        """Whether clips are scaled to a peak of full scale first."""
        return self.peak_normalise


def decode_image(data: bytes) -> "Image":
    """Decode a PNG or JPEG to a PIL image in RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB")


def no_text_encoder_error(spec: EncoderSpec) -> VlmAudioError:
    """Return the error for an encoder that cannot embed texts."""
    return VlmAudioError(
        f"encoder of kind '{spec.kind}' ({spec.model_id}) has no text encoder; use `clap`, or `vision` with a CLIP or "
        "SigLIP model and `pooling: pooler`"
    )


ENCODERS: Registry[EncoderSpec] = Registry("encoder", "vlm_audio_pipeline.encoders")
