"""The measures of one run of a classifier, as other tools list them: names and numbers, and why others are undefined."""

from dataclasses import dataclass

from vlm_audio_pipeline.reports.page.study_results import StudyResults


@dataclass(frozen=True)
class RunMeasures:
    """The measures of a classifier with one scoring and one control, over all clips.

    Attributes:
        values: name -> value. `accuracy` leaves out requests that failed and counts all other responses without a class as
            wrong; `accuracy_answered` leaves those out, too.
        undefined: name -> reason.
    """

    values: dict[str, float]
    undefined: dict[str, str]


def read_measures(results: StudyResults, classifier: str, scoring: str, control: str) -> RunMeasures:
    """Return the measures of a run; both parts are empty if the study has not computed them."""
    rows = results.query(
        "SELECT metric, value, reason FROM metrics WHERE study = $1 AND classifier = $2 AND scoring = $3 AND control = $4 "
        "AND subset = 'all' AND label = '' ORDER BY metric",
        classifier,
        scoring,
        control,
    )
    return RunMeasures(
        values={row["metric"]: row["value"] for row in rows if row["value"] is not None},
        undefined={row["metric"]: row["reason"] or "" for row in rows if row["value"] is None},
    )
