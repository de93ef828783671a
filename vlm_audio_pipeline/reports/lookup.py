"""Look up the predictions of one clip in the catalogue."""

from difflib import get_close_matches
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder


def find_predictions(
    data_folder: DataFolder, clip: str, classifier: str | None = None, study: str | None = None
) -> list[dict[str, Any]]:
    """Return each prediction of a clip, joined with the clip's own columns.

    Args:
        data_folder: the data folder.
        clip: clip id.
        classifier: name of a classifier; None for all.
        study: name of a study; None for all.

    Raises:
        VlmAudioError: when there is no such prediction; the message suggests similar names.
    """
    rows = query(
        data_folder,
        "SELECT c.* EXCLUDE (study), p.* EXCLUDE (clip, label, source, fold) FROM predictions p "
        "JOIN clips c USING (study, clip) WHERE clip = $1 AND ($2 IS NULL OR classifier = $2) "
        "AND ($3 IS NULL OR p.study = $3) ORDER BY p.study, classifier, scoring, control, trial",
        [clip, classifier, study],
    ).to_pylist()
    if rows:
        return rows
    for column, value in (("clip", clip), ("classifier", classifier), ("study", study)):
        stored = query(data_folder, f"SELECT DISTINCT {column} FROM predictions").column(0).to_pylist()
        if value is not None and value not in stored:
            options = get_close_matches(value, stored, n=5) or sorted(stored)[:5]
            more = f", ... ({len(stored)} in all)" if len(stored) > 5 else ""
            raise VlmAudioError(f"no prediction has the {column} '{value}'; {suggestion(value, options)}{more}")
    raise VlmAudioError(f"no prediction for clip '{clip}' with classifier '{classifier}' and study '{study}'")
