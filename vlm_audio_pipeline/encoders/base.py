"""What an encoder is, and the one stage all encoders share: vectors by content, assembled into `embeddings`.

What belongs here: the contract of a family (audio, picture, text side, card) and everything families have in common.
What does not: weights on disk (`weights`), devices and batches of models (`torch_batches`, `pretrained`).
"""

import io
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, not_identity
from vlm_audio_pipeline.contracts.stages import Input, Progress, Stage, StageContext, silent
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.engines import Failure, map_rows
from vlm_audio_pipeline.storage.layout import Layout

if TYPE_CHECKING:
    from PIL.Image import Image

Encode = Callable[[Sequence[Any]], Sequence[np.ndarray]]
"""Items -> vectors, each (dimensions,) float32: samples (n,) float32 mono at `rate_hz`, or RGB pictures where `sees`."""

_LONGEST = 30.0  # seconds of sound a row of a batch may have on average; longer clips make smaller batches


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model: shown beside its results and used to judge them.

    Attributes:
        title: its full name.
        licence: of the weights.
        url: paper or model page.
        citation: BibTeX, or empty.
        dimensions: length of its vectors, where every model of the family gives the same.
        training_data: what it was trained on, in a sentence.
        overlaps: datasets whose recordings are known to be in its training data ("FreeSound" is where ESC-50 comes from).
    """

    title: str
    licence: str = ""
    url: str = ""
    citation: str = ""
    dimensions: int | None = None
    training_data: str = ""
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSide:
    """The half of an encoder that reads: texts land in the space of its vectors.

    Attributes:
        encode: texts -> vectors, each (dimensions,) float32 of length 1.
        logit_scale: the model's own inverse temperature: probabilities over labels are
            softmax(logit_scale * cosine(clip, label)).
    """

    encode: Callable[[Sequence[str]], Sequence[np.ndarray]]
    logit_scale: float


class EncoderSpec(Spec):
    """What every encoder can be told; a family adds its own parameters and says how it computes.

    A family sets `step_version` (raised whenever the code would give other vectors) and `rate_hz`, and implements
    `load`. One that looks at pictures sets `sees` and has a field `rendering: str = refers_to("renderings")`; one with a
    text side says so in `has_text_side` and implements `load_text`. Everything else - batching, reuse, resume, the
    table - is here.
    """

    step_version: ClassVar[int] = 1
    sees: ClassVar[bool] = False
    batch_size: int = not_identity(16, ge=1)
    """Clips a call of the encoder."""

    @property
    @abstractmethod
    def rate_hz(self) -> int:
        """Sampling rate the encoder wants, Hz; 0 where it looks at pictures."""

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return ModelCard(title=f"{self.kind}: computed, without weights", training_data="none")

    @property
    def weights(self) -> Weights | None:
        """The files it is loaded from; None where there are none."""
        return None

    @property
    def model_id(self) -> str:
        """Model id, or the family's own name."""
        return self.weights.model if self.weights else self.kind

    @property
    def weights_revision(self) -> str | None:
        """Hub commit or digest of the weights; None where there are none."""
        return self.weights.resolve() if self.weights else None

    @property
    def number_format(self) -> str:
        """Number format of the computation; the device does not enter a row's key, this does."""
        return "float32"

    @property
    def workers(self) -> int | None:
        """Batches at a time; None for one a core. Encoders that fill the machine by themselves say 1."""
        return None

    @property
    def accelerator(self) -> bool:
        """Whether a GPU is wanted."""
        return False

    @property
    def has_text_side(self) -> bool:
        """Whether texts can be put into the space of its vectors."""
        return False

    def unavailable(self) -> str | None:
        """Say why this encoder cannot run on this machine now (weights missing), or None."""
        return self.weights.missing() if self.weights else None

    def fetch(self, layout: Layout, progress: Progress = silent) -> None:
        """Get from outside what the encoder needs and this machine has not; a run never does.

        Raises:
            NotAvailable: when it cannot be had.
        """
        if self.weights:
            fetch_weights(self.weights, progress)

    @abstractmethod
    def load(self) -> Encode:
        """Load the model and give the function from items to vectors.

        Called only when there is something to compute.
        """

    def load_text(self) -> TextSide:
        """Load the half that reads; only where `has_text_side`."""
        raise no_text_side(self)

    def stages(self, name: str) -> list[Stage]:
        """Give the stages of this encoder under its name in the study."""
        return [self._stage()]

    def controlled_stage(self, name: str, control: str) -> Stage:
        """Give the stage that encodes the controlled pictures instead, for the graph to own as `<name>__<control>`.

        Args:
            name: name of the encoder in the study.
            control: "blank", "time_shuffled", "other_clip".

        Raises:
            VlmAudioError: for an encoder that does not look at pictures.
        """
        if not self.sees:
            raise VlmAudioError(
                f"a control must be of an encoder that looks at pictures, got '{name}' of kind {self.kind}; drop '{control}'"
            )
        return self._stage(control)

    def _stage(self, control: str | None = None) -> Stage:
        inputs: tuple[Input, ...] = (Input("clips"),)
        what = f"mono samples at {self.rate_hz} Hz"
        if self.sees:
            rendering = vars(self)["rendering"] + (f"__{control}" if control else "")  # a field of the family
            inputs, what = (*inputs, Input("spectrograms", rendering)), f"pictures of rendering '{rendering}'"
        if self.weights:
            inputs = (*inputs, self.weights.observed)
        return Stage(
            asset="embeddings",
            tables=("embeddings",),
            version=self.step_version,
            parameters={**self.identity(), "dtype": self.number_format},
            inputs=inputs,
            run=self._embed,
            description=f"Vectors of {self.kind} ({self.model_id}): one float32 vector a clip, from {what}.",
            accelerator=self.accelerator,
            unavailable=self.unavailable,
        )

    def computes_by(self) -> dict[str, Any]:
        """Give the parameters that enter a vector, of a clip or a text: all but the name of a rendering."""
        return {k: v for k, v in self.identity().items() if k != "rendering"}

    def row_key(self, content_sha256: str) -> str:
        """Give the key of a vector: all that determines it, and not the name of the rendering the pictures came from."""
        own, revision, dtype = self.computes_by(), self.weights_revision, self.number_format
        return fingerprint("vector", self.step_version, own, revision, dtype, content_sha256, length=64)

    def check_revision(self, keyed: str | None) -> None:
        """Refuse what was loaded when the weights have moved since the keys were made.

        Raises:
            VlmAudioError: as what was loaded may be of either revision.
        """
        if (now := self.weights_revision) != keyed:
            raise VlmAudioError(
                f"the revision of {self.model_id} must stay while it is loaded, got {keyed} and then {now}; run again"
            )

    def _embed(self, context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"].to_pylist()
        revision, pictures = self.weights_revision, self._pictures(context)
        content = [(pictures[c["clip"]][0] if self.sees else c["samples_sha256"]) for c in clips]
        made = {sha: self.row_key(sha) for sha in dict.fromkeys(content)}
        keys = [made[sha] for sha in content]
        encode: list[Encode] = []  # loaded at the first batch, and only if there is one

        def prepare(clip: dict) -> "np.ndarray | Image":
            if self.sees:
                return picture(pictures[clip["clip"]][1])
            return context.dataset.load(
                clip["file"], self.rate_hz, clip["start_s"], clip["end_s"], clip["samples_sha256"]
            )

        def compute(batch: list) -> list[bytes | Failure]:
            if not encode:
                encode.append(self.load())
                self.check_revision(revision)
            return [vector_bytes(v) for v in encode[0](batch)]

        try:
            payloads = map_rows(
                keys,
                clips,
                compute,
                context.rows,
                kind="vector",
                batch_size=self.batch_size,
                workers=self.workers,
                prepare=prepare,
                sizes=None if self.sees else [c["duration_s"] for c in clips],
                largest=_LONGEST * self.batch_size,
                progress=context.progress,
            )
        except NotAvailable as error:
            raise NotAvailable(f"{error}; needed by embeddings/{context.name}") from error
        failed = [f"{c['clip']}: {p.reason}" for c, p in zip(clips, payloads, strict=True) if isinstance(p, Failure)]
        if failed:
            raise VlmAudioError(
                f"encoder '{context.name}' must give a vector for every clip, but could not for {failed}"
            )
        vectors = [np.frombuffer(p, dtype="<f4") for p in payloads if isinstance(p, bytes)]
        n = len(clips)
        return {
            "embeddings": pa.table(
                {
                    "clip": [c["clip"] for c in clips],
                    "vector": pa.array(vectors, pa.list_(pa.float32())),
                    "dimensions": pa.array([len(v) for v in vectors], pa.int64()),
                    "model": [self.model_id] * n,
                    "revision": pa.array([revision] * n, pa.string()),
                    "dtype": [self.number_format] * n,
                    "row_key": keys,
                }
            )
        }

    def _pictures(self, context: StageContext) -> dict[str, tuple[str, bytes]]:
        """Give the picture of every clip: clip -> (SHA-256, encoded bytes)."""
        if not self.sees:
            return {}
        [table] = [t for key, t in context.inputs.items() if key.startswith("spectrograms/")]
        columns = (table[c].to_pylist() for c in ("clip", "picture_sha256", "picture"))
        found = {clip: (sha, data) for clip, sha, data in zip(*columns, strict=True)}
        without = sorted(set(context.inputs["clips"]["clip"].to_pylist()) - set(found))
        if without:
            raise VlmAudioError(f"every clip must have a picture, got none for {without[:10]}; run the rendering again")
        return found


def picture(data: bytes) -> "Image":
    """Decode a PNG or JPEG to a PIL picture in RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB")


def vector_bytes(vector: np.ndarray) -> bytes:
    """Give the payload of a vector: little-endian float32.

    Raises:
        VlmAudioError: for a vector that is not one-dimensional and finite, which must never be stored.
    """
    vector = np.asarray(vector, dtype="<f4")
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise VlmAudioError(
            f"a vector must be one-dimensional and finite, got shape {vector.shape} with "
            f"{int((~np.isfinite(vector)).sum())} values that are not; try `dtype: float32`"
        )
    return vector.tobytes()


def matrix(embeddings: pa.Table) -> np.ndarray:
    """Give the vectors of an `embeddings` table as (clips, dimensions) float32, in its row order.

    Raises:
        VlmAudioError: when the vectors differ in length.
    """
    lengths = set(embeddings["dimensions"].to_pylist())
    if len(lengths) > 1:
        raise VlmAudioError(
            f"vectors of one encoder must have one length, got {sorted(lengths)}; delete its part and run again"
        )
    flat = embeddings["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(embeddings.num_rows, lengths.pop() if lengths else 0)


def no_text_side(spec: EncoderSpec) -> VlmAudioError:
    """Give the error of an encoder that cannot read."""
    return VlmAudioError(
        f"the encoder must have a text side, got kind '{spec.kind}' ({spec.model_id}) without one; use `clap`, or "
        "`vision` with a CLIP or SigLIP model and `pooling: pooler`"
    )


ENCODERS: Registry[EncoderSpec] = Registry("encoder", "vlm_audio_pipeline.encoders")
