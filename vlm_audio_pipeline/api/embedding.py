"""`vap.embed`: the vectors of recordings, as a study would compute them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.api.recordings import Recording, recording_files
from vlm_audio_pipeline.api.rendering import Rendering, find_rendering

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def embed(
    recordings: Recording | Sequence[Recording],
    encoder: str,
    *,
    study: str | Path | None = None,
    rendering: Rendering = "paper",
    data: str | Path | None = None,
    **settings: Any,
) -> "npt.NDArray[np.float32]":
    """Embed recordings: the same vectors as in a study.

    Vectors are kept in the result store of the data folder, so that a repeated call computes nothing.

    Args:
        recordings: audio files, or (samples, sample rate); one or several.
        encoder: a kind of encoder (`clap`, `vision`, `features`, `pixels`, ...), or with `study` the name of one of its encoders.
        study: a built-in study, a study file, or a study that was run.
        rendering: the rendering of the images, for an encoder of images; see `vap.render`.
        data: the data folder; by default VLM_AUDIO_DATA, else `data/`.
        **settings: keys of the encoder as in a study file, such as `model="laion/larger_clap_general"`.

    Returns:
        (recordings, dimensions) float32, in the order of `recordings`.

    Raises:
        BadStudy: for an unknown kind or key.
        BadClips: for recordings that cannot be decoded; lists all of them.
        NotAvailable: if weights are missing; `vlm-audio fetch` or `vap.study(...).fetch()` downloads them.
    """
    from vlm_audio_pipeline.api.recording_study import (
        Parts,
        compute,
        described_spec,
        find_part,
        open_data,
        refuse_settings,
        study_parts,
    )
    from vlm_audio_pipeline.encoders.base import ENCODERS
    from vlm_audio_pipeline.encoders.vectors import vector_matrix

    with open_data(data) as data_folder, recording_files(recordings) as files:
        if study is not None:
            refuse_settings(study, settings)
            parts = study_parts(study, data_folder)
            assert parts.study is not None
            parts = Parts(parts.renderings, {encoder: find_part("encoders", encoder, parts.encoders, parts.study)}, {})
        else:
            kind = ENCODERS.all().get(encoder)
            values = {"rendering": "rendering", **settings} if kind is not None and kind.takes_images else settings
            spec = described_spec("encoders", encoder, {"kind": encoder, **values})
            recipes = {"rendering": find_rendering(rendering)} if spec.takes_images else {}
            parts = Parts(recipes, {encoder: spec}, {})
        return vector_matrix(compute(parts.graph(files, data_folder), f"embeddings/{encoder}", files))
