"""Whole recordings on the page of a multi-label study with `pooling`.

Belongs here: reading the rows, and what equal scores reach. Does not belong here: pooling (`tasks.multi_label.pooling`).
"""

from typing import Any

from vlm_audio_pipeline.reports.page.study_results import StudyResults


def recording_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return the rows of `multi_label_recordings`, the highest cmAP of each pooling first; empty for a study without `pooling`."""
    return results.query(
        "SELECT * FROM multi_label_recordings WHERE study = $1 ORDER BY pooling, cmap DESC NULLS LAST, classifier, scoring, control"
    )


def equal_scores_cmap(results: StudyResults) -> float | None:
    """Return the cmAP of equal scores for all recordings: the mean over classes of the share of recordings that have the class.

    Returns:
        A share of 1; None if no recording has a class.
    """
    (row,) = results.query(
        "WITH of_class AS (SELECT clip_labels.label, count(DISTINCT source) AS n FROM clip_labels JOIN clips USING (study, clip) "
        "WHERE study = $1 GROUP BY clip_labels.label) "
        "SELECT avg(n) / (SELECT count(DISTINCT source) FROM clips WHERE study = $1) AS cmap FROM of_class"
    )
    value: float | None = row["cmap"]
    return value
