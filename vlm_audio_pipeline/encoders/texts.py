"""Text vectors in the space of an encoder. They are stored in the result store, so each model revision embeds a text only once."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.contracts.work import Compute, Engine, Failure, Rows
from vlm_audio_pipeline.encoders.base import EncoderSpec, no_text_encoder_error
from vlm_audio_pipeline.encoders.vectors import pack_vector
from vlm_audio_pipeline.storage.result_store import ResultStore

LOGIT_SCALE = None
"""The item of `TextWork` whose payload is the model's inverse temperature, as a little-endian double."""


@dataclass(frozen=True)
class TextWork:
    """Computes the vectors of texts, and for the item `LOGIT_SCALE` the model's inverse temperature; see `contracts.work.Work`.

    Attributes:
        spec: an encoder with a text encoder, its device fixed.
        revision: revision of the weights, part of the result keys.
    """

    spec: EncoderSpec
    revision: str | None
    max_parallel = 1

    @property
    def key(self) -> str:
        """Hash of the parameters, the revision, the device and the number format.

        The revision is that of the plan, not that of the cache of the machine where the work is opened.
        """
        spec = self.spec
        device = "cuda" if self.uses_gpu else "cpu"
        parameters = spec.vector_parameters()
        return fingerprint(
            "texts", spec.step_version, parameters, spec.model_id, self.revision, device, spec.number_format
        )

    @property
    def uses_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.spec.accelerator

    def files_of(self, item: str | None) -> tuple[Path, ...]:
        """Return (): texts are in the items."""
        return ()

    def prepare(self, item: str | None) -> str | None:
        """Return the item."""
        return item

    def open(self) -> Compute:
        """Load the text encoder.

        Raises:
            NotAvailable: if weights or device are missing.
            VlmAudioError: if the weights have another revision than the result keys.
        """
        encoder = self.spec.load_text_encoder()
        self.spec.check_revision(self.revision)

        def compute(batch: list[str | None]) -> list[bytes | Failure]:
            if batch == [LOGIT_SCALE]:
                return [struct.pack("<d", encoder.logit_scale)]
            return [pack_vector(v) for v in encoder.encode([text for text in batch if text is not None])]

        return compute


def embed_texts(
    spec: EncoderSpec, texts: Sequence[str], result_store: ResultStore, engine: Engine
) -> tuple[np.ndarray, float]:
    """Return the vectors of texts, and the model's inverse temperature (see `TextEncoder`).

    The model is loaded only for texts that the result store does not have.

    Args:
        spec: an encoder of clips or images with a text encoder.
        texts: n texts.
        result_store: its keys contain the encoder's parameters, version, revision, dtype and the text.
        engine: computes the vectors.

    Returns:
        (n, dimensions) float32, rows of length 1; the inverse temperature.

    Raises:
        VlmAudioError: for an encoder without a text encoder.
        NotAvailable: if a text must be embedded and the weights are missing.
    """
    if not spec.has_text_encoder:
        raise no_text_encoder_error(spec)
    work = TextWork(spec.with_device(), spec.weights_revision)
    rows = [
        Rows([_text_key(spec, "text", text) for text in texts], list(texts), work, kind="text_vector", batch_size=64),
        Rows([_text_key(spec, "logit_scale")], [LOGIT_SCALE], work, kind="logit_scale"),
    ]
    payloads, [scale] = engine.map_rows(rows, result_store, no_progress)
    assert isinstance(scale, bytes)
    return np.stack([np.frombuffer(p, dtype="<f4") for p in payloads if isinstance(p, bytes)]), struct.unpack(
        "<d", scale
    )[0]


def _text_key(spec: EncoderSpec, *content: str) -> str:
    parameters, revision, dtype = spec.vector_parameters(), spec.weights_revision, spec.number_format
    return fingerprint(*content, spec.step_version, parameters, revision, dtype, length=64)
