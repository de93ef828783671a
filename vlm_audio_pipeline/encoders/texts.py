"""Texts in the space of an encoder's vectors, through the row store: each text is read once by each revision of a model.

What belongs here: what zero-shot classification asks of an encoder. What does not: templates and labels (`classifiers`).
"""

import struct
from collections.abc import Sequence

import numpy as np

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.encoders.base import EncoderSpec, TextSide, no_text_side, vector_bytes
from vlm_audio_pipeline.engines import Failure, map_rows
from vlm_audio_pipeline.storage.result_store import RowStore


def embed_texts(spec: EncoderSpec, texts: Sequence[str], rows: RowStore) -> np.ndarray:
    """Give the vectors of texts, from the row store where they are known; the model is loaded only for new ones.

    Args:
        spec: an encoder with a text side.
        texts: n of them, as the model shall read them.
        rows: the row store; keys are made of the encoder's parameters, version, revision, dtype and text.

    Returns:
        (n, dimensions) float32, rows of length 1.

    Raises:
        VlmAudioError: for an encoder without a text side.
        NotAvailable: when something is to be computed and the weights are missing.
    """
    side: list[TextSide] = []

    def compute(batch: list[str]) -> list[bytes | Failure]:
        if not side:
            side.append(_text_side(spec, rows))
        return [vector_bytes(v) for v in side[0].encode(batch)]

    keys = [_text_key(spec, "text", text) for text in texts]
    payloads = map_rows(keys, list(texts), compute, rows, kind="text_vector", batch_size=64, workers=1)
    return np.stack([np.frombuffer(p, dtype="<f4") for p in payloads if isinstance(p, bytes)])


def logit_scale(spec: EncoderSpec, rows: RowStore) -> float:
    """Give the model's own inverse temperature (see `TextSide`), from the row store where it is known.

    Raises:
        VlmAudioError: for an encoder without a text side.
        NotAvailable: when it is not known and the weights are missing.
    """
    key = _text_key(spec, "logit_scale")
    payload = rows.get([key]).get(key)
    return float(struct.unpack("<d", payload)[0]) if payload else _text_side(spec, rows).logit_scale


def _text_key(spec: EncoderSpec, *what: str) -> str:
    own, revision, dtype = spec.computes_by(), spec.weights_revision, spec.number_format
    return fingerprint(*what, spec.step_version, own, revision, dtype, length=64)


def _text_side(spec: EncoderSpec, rows: RowStore) -> TextSide:
    if not spec.has_text_side:
        raise no_text_side(spec)
    keyed = spec.weights_revision
    side = spec.load_text()
    spec.check_revision(keyed)
    rows.put("logit_scale", [(_text_key(spec, "logit_scale"), struct.pack("<d", side.logit_scale))])
    return side
