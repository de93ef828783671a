"""Which pictures of a study a page shows."""

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.storage.catalogue import manifests, query
from vlm_audio_pipeline.storage.layout import Layout


def shown_rendering(layout: Layout, study: str, rendering: str | None) -> str:
    """Give the rendering named, or the first of the study file whose pictures were made.

    Args:
        layout: the data folder.
        study: name of a study.
        rendering: one of its renderings, or None.

    Raises:
        VlmAudioError: for a study that was not run, or pictures that were not made; names what there is.
    """
    known = manifests(layout)
    if study not in known:
        raise VlmAudioError(
            f"a study to show must have been run in {layout.root}, got '{study}'; {suggestion(study, known)}"
        )
    made = query(layout, "SELECT DISTINCT rendering FROM spectrograms WHERE study = $1", [study])[
        "rendering"
    ].to_pylist()
    names = [name for name in known[study]["study"]["renderings"] if name in made]
    if not names:
        raise VlmAudioError(
            f"study '{study}' must have pictures to show, got none; give it `renderings` and run it in this data folder"
        )
    if rendering is not None and rendering not in names:
        raise VlmAudioError(
            f"--rendering must name one whose pictures were made, got '{rendering}'; {suggestion(rendering, names)}"
        )
    return rendering or names[0]
