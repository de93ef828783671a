"""Choose the rendering whose images are shown outside the pipeline (annotation sheet, FiftyOne)."""

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.study_records import study_record


def choose_rendering(data_folder: DataFolder, study: str, rendering: str | None) -> str:
    """Return `rendering` if it has stored images, or else the first one of the study that has stored images.

    Args:
        data_folder: the data folder.
        study: name of a study.
        rendering: name of one of its renderings, or None.

    Raises:
        VlmAudioError: for a study that was not run, or a rendering without images.
    """
    record = study_record(data_folder, study)
    stored_names = query(data_folder, "SELECT DISTINCT rendering FROM spectrograms WHERE study = $1", [study])[
        "rendering"
    ].to_pylist()
    names = [name for name in record["study"]["renderings"] if name in stored_names]
    if not names:
        raise VlmAudioError(
            f"study '{study}' has no images; add `renderings` to its study file and run it in this data folder"
        )
    if rendering is not None and rendering not in names:
        raise VlmAudioError(
            f"--rendering must name a rendering that has images, got '{rendering}'; {suggestion(rendering, names)}"
        )
    return rendering or names[0]
