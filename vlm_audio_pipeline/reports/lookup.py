"""Look up leaderboards, and the predictions of one clip, in the catalogue."""

import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder

LEADERBOARD = (
    "SELECT * FROM leaderboard WHERE $1 IS NULL OR study = $1 "
    "ORDER BY study, rank NULLS LAST, accuracy DESC NULLS LAST, classifier, scoring, control"
)
"""SQL of the leaderboard of a study, or of all studies for null."""


MULTI_LABEL_LEADERBOARD = (
    "SELECT * FROM multi_label_leaderboard WHERE $1 IS NULL OR study = $1 "
    "ORDER BY study, rank NULLS LAST, cmap DESC NULLS LAST, classifier, scoring, control"
)
"""The same of studies with `task: multi_label`."""

MULTI_LABEL_RECORDINGS = (
    "SELECT * FROM multi_label_recordings WHERE $1 IS NULL OR study = $1 "
    "ORDER BY study, pooling, cmap DESC NULLS LAST, classifier, scoring, control"
)
"""SQL of the measures of whole recordings of a study, or of all studies for null."""

_LEADERBOARDS = {"leaderboard": LEADERBOARD, "multi_label_leaderboard": MULTI_LABEL_LEADERBOARD}


def find_leaderboards(data_folder: DataFolder, study: str | None = None) -> dict[str, pa.Table]:
    """Return the leaderboards of a study, or of all studies, by table: one table for each task.

    Raises:
        VlmAudioError: if all are empty.
    """
    tables = {
        name: query(data_folder, sql, [study], leave_out_damaged=True)  # of other studies, too
        for name, sql in _LEADERBOARDS.items()
    }
    if not any(rows.num_rows for rows in tables.values()):
        raise VlmAudioError(
            f"no leaderboard{f' of {study}' if study else ''} yet; run `vlm-audio run {study or 'demo'}`"
        )
    return tables


def find_leaderboard(data_folder: DataFolder, study: str | None = None) -> pa.Table:
    """Return the leaderboard of a study, or of all studies: of the first task that has rows.

    Raises:
        VlmAudioError: if there is none.
    """
    return next(rows for rows in find_leaderboards(data_folder, study).values() if rows.num_rows)


def find_predictions(
    data_folder: DataFolder, clip: str, classifier: str | None = None, study: str | None = None
) -> pa.Table:
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
    )
    if rows.num_rows:
        return rows
    for column, value in (("clip", clip), ("classifier", classifier), ("study", study)):
        stored = query(data_folder, f"SELECT DISTINCT {column} FROM predictions").column(0).to_pylist()
        if value is not None and value not in stored:
            raise VlmAudioError(f"no prediction has the {column} '{value}'; {suggestion(value, stored)}")
    raise VlmAudioError(
        f"no prediction for clip '{clip}' with classifier '{classifier}' and study '{study}'; leave out one of them"
    )
