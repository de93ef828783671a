"""What an encoder is, and the one stage all encoders share: vectors by content, assembled into `embeddings`."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, not_identity
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.engines import Failure, map_rows

if TYPE_CHECKING:
    Encode = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class EncoderSpec(Spec):
    """What every encoder can be told; a family adds its own parameters and says how it computes.

    A family sets `step_version` (raised whenever the code would give other vectors) and `rate_hz`, and implements
    `load`. Everything else - batching, reuse, resume, the table - is here.
    """

    step_version: ClassVar[int] = 1
    batch_size: int = not_identity(16, ge=1)
    """Clips a call of the encoder."""

    @property
    @abstractmethod
    def rate_hz(self) -> int:
        """Sampling rate the encoder wants, Hz."""

    @property
    def model(self) -> str:
        """Model id, or the family's own name."""
        return self.kind

    @property
    def revision(self) -> str | None:
        """Hub commit or digest of the weights; None where there are none."""
        return None

    @property
    def dtype(self) -> str:
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

    def unavailable(self) -> str | None:
        """Say why this encoder cannot run on this machine now (weights missing), or None."""
        return None

    @abstractmethod
    def load(self) -> "Encode":
        """Load the model and give a function: clips, each (samples,) float32 mono at `rate_hz` -> vectors, each (dimensions,) float32.

        Called only when there is something to compute.
        """

    def stages(self, name: str) -> list[Stage]:
        """Give the stages of this encoder under its name in the study."""
        return [
            Stage(
                asset="embeddings",
                tables=("embeddings",),
                version=self.step_version,
                parameters={**self.identity(), "dtype": self.dtype, "revision": self.revision},
                inputs=(Input("clips"),),
                run=self._embed,
                description=f"Vectors of {self.kind} ({self.model}): one float32 vector a clip, from mono samples at {self.rate_hz} Hz.",
                accelerator=self.accelerator,
                unavailable=self.unavailable,
            )
        ]

    def _embed(self, context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"].to_pylist()
        keys = [
            fingerprint(
                "vector", self.step_version, self.identity(), self.revision, self.dtype, c["samples_sha256"], length=64
            )
            for c in clips
        ]
        encode: list[Encode] = []  # loaded at the first batch, and only if there is one

        def compute(batch: list[dict]) -> list[bytes | Failure]:
            if not encode:
                encode.append(self.load())
            samples = [context.dataset.load(c["file"], self.rate_hz, c["start_s"], c["end_s"]) for c in batch]
            return [np.asarray(v, dtype="<f4").tobytes() for v in encode[0](samples)]

        payloads = map_rows(
            keys,
            clips,
            compute,
            context.rows,
            kind="vector",
            batch_size=self.batch_size,
            workers=self.workers,
            progress=context.progress,
        )
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
                    "model": [self.model] * n,
                    "revision": pa.array([self.revision] * n, pa.string()),
                    "dtype": [self.dtype] * n,
                    "row_key": keys,
                }
            )
        }


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


ENCODERS: Registry[EncoderSpec] = Registry("encoder", "vlm_audio_pipeline.encoders")
