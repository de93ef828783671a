"""Everything about the predictions of one clip, looked up in the catalogue."""

from difflib import get_close_matches
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.layout import Layout


def predictions_of(
    layout: Layout, clip: str, classifier: str | None = None, study: str | None = None
) -> list[dict[str, Any]]:
    """Give each prediction of a clip together with what is known of the clip.

    Args:
        layout: the data folder.
        clip: clip id.
        classifier: only this one's; None: all.
        study: only this one's; None: all.

    Raises:
        VlmAudioError: when there is none; names what was probably meant.
    """
    rows = query(
        layout,
        "SELECT c.* EXCLUDE (study), p.* EXCLUDE (clip, label, source, fold) FROM predictions p "
        "JOIN clips c USING (study, clip) WHERE clip = $1 AND ($2 IS NULL OR classifier = $2) "
        "AND ($3 IS NULL OR p.study = $3) ORDER BY p.study, classifier, scoring, control, trial",
        [clip, classifier, study],
    ).to_pylist()
    if rows:
        return rows
    for name, value in (("clip", clip), ("classifier", classifier), ("study", study)):
        known = query(layout, f"SELECT DISTINCT {name} FROM predictions").column(0).to_pylist()
        if value is not None and value not in known:
            few = get_close_matches(value, known, n=5) or sorted(known)[:5]
            more = f", ... ({len(known)} in all)" if len(known) > 5 else ""
            raise VlmAudioError(f"no prediction has the {name} '{value}'; {suggestion(value, few)}{more}")
    raise VlmAudioError(f"no prediction for clip '{clip}' with classifier '{classifier}' and study '{study}'")
