"""The findings of the leakage checks: headings, words and order on the page."""

from collections.abc import Sequence
from typing import Any

LEAKAGE_TITLES = {
    "source_across_folds": "Source recordings in several folds",
    "file_across_folds": "Files in several folds",
    "alike_sources": "Source recordings with similar names",
    "example_of_query_source": "Examples from the recording of the query",
    "exact_duplicate": "Clips with the same samples",
    "near_duplicate": "Clips that are almost the same",
    "training_data": "Training data of the models",
}
"""Kind of a leakage check -> its heading, in the order of the page."""
SEVERITY_WORDS = {"clean": "nothing found", "unknown": "not known"}
"""Severity of a finding -> its words, if they are not the severity."""
_SEVERITIES = ("leak", "suspect", "unknown", "clean")


def leakage_findings(leakage: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the summaries of the leakage checks, most severe first, then in the order of `LEAKAGE_TITLES`.

    Returns:
        The rows that are about all clips. Each has `details`: the rows about single clips of the same check.
    """
    details: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in leakage:
        if row["clip_ids"] is not None:
            details.setdefault((row["kind"], row["subject"].partition(":")[0]), []).append(row)
    summaries = []
    for row in leakage:
        if row["clip_ids"] is None:
            clip_rows = details.pop((row["kind"], row["subject"]), [])
            if not row["subject"]:  # rows about single clips name the clip or recording as their subject
                clip_rows += [r for key in [k for k in details if k[0] == row["kind"]] for r in details.pop(key)]
            summaries.append({**row, "details": clip_rows})
    summaries += [{**row, "details": []} for remaining in details.values() for row in remaining]
    kinds = list(LEAKAGE_TITLES)

    def place(row: dict[str, Any]) -> tuple[int, int]:
        severity, kind = row["severity"], row["kind"]
        return (
            _SEVERITIES.index(severity) if severity in _SEVERITIES else -1,
            kinds.index(kind) if kind in kinds else len(kinds),
        )

    return sorted(summaries, key=place)
