"""Text vectors in the space of an encoder. The result store keeps them, so each model revision embeds a text once."""

import struct
from collections.abc import Sequence

import numpy as np

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.encoders.base import EncoderSpec, TextSide, no_text_side
from vlm_audio_pipeline.encoders.vectors import pack_vector
from vlm_audio_pipeline.engines import Failure, compute_results
from vlm_audio_pipeline.storage.result_store import ResultStore


def embed_texts(spec: EncoderSpec, texts: Sequence[str], result_store: ResultStore) -> np.ndarray:
    """Return the vectors of texts; the model is loaded only for texts that the result store does not have.

    Args:
        spec: an encoder with a text side.
        texts: n texts.
        result_store: its keys contain the encoder's parameters, version, revision, dtype and the text.

    Returns:
        (n, dimensions) float32, rows of length 1.

    Raises:
        VlmAudioError: for an encoder without a text side.
        NotAvailable: if a text must be embedded and the weights are missing.
    """
    side: list[TextSide] = []

    def compute(batch: list[str]) -> list[bytes | Failure]:
        if not side:
            side.append(_text_side(spec, result_store))
        return [pack_vector(v) for v in side[0].encode(batch)]

    keys = [_text_key(spec, "text", text) for text in texts]
    payloads = compute_results(keys, list(texts), compute, result_store, kind="text_vector", batch_size=64, workers=1)
    return np.stack([np.frombuffer(p, dtype="<f4") for p in payloads if isinstance(p, bytes)])


def logit_scale(spec: EncoderSpec, result_store: ResultStore) -> float:
    """Return the model's inverse temperature (see `TextSide`), from the result store if it is there.

    Raises:
        VlmAudioError: for an encoder without a text side.
        NotAvailable: if it is not stored and the weights are missing.
    """
    key = _text_key(spec, "logit_scale")
    payload = result_store.get([key]).get(key)
    return float(struct.unpack("<d", payload)[0]) if payload else _text_side(spec, result_store).logit_scale


def _text_key(spec: EncoderSpec, *content: str) -> str:
    parameters, revision, dtype = spec.vector_parameters(), spec.weights_revision, spec.number_format
    return fingerprint(*content, spec.step_version, parameters, revision, dtype, length=64)


def _text_side(spec: EncoderSpec, result_store: ResultStore) -> TextSide:
    if not spec.has_text_side:
        raise no_text_side(spec)
    revision = spec.weights_revision
    side = spec.load_text()
    spec.check_revision(revision)
    result_store.put("logit_scale", [(_text_key(spec, "logit_scale"), struct.pack("<d", side.logit_scale))])
    return side
