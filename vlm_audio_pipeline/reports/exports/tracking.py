"""The results of a study as an experiment tracker logs them: one run with parameters, metrics and tags for each result.

It is used with Dagster's integrations of MLflow and Weights & Biases (docs/other-tools.md), and needs neither of them.
"""

from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.escapes import strict_json
from vlm_audio_pipeline.reports.exports.study_measures import read_measures
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder

_MAX_TEXT = 5000
"""Maximum length of a value, characters; MLflow refuses parameters of more than 6000."""


@dataclass(frozen=True)
class TrackedResult:
    """The result of a classifier with one scoring and one control.

    Attributes:
        name: name of the run, such as "janus_likelihood__blank".
        parameters: the settings of the classifier in the study.
        metrics: every defined measure over all clips. An undefined measure has no number.
        tags: study, classifier, scoring, control, models and their revisions, whether the row is partial, its note, the
            undefined measures with the reasons, and the version of this program.
    """

    name: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def tracked_results(data_folder: DataFolder, study: str) -> list[TrackedResult]:
    """Return every row of the leaderboard of a study, in its order.

    Raises:
        VlmAudioError: if no study of that name was run in this data folder.
    """
    results = StudyResults.load(data_folder, study)
    rows = results.query(
        "SELECT * FROM leaderboard WHERE study = $1 ORDER BY rank NULLS LAST, accuracy DESC NULLS LAST, classifier"
    )
    return [_tracked_result(results, row) for row in rows]


def _tracked_result(results: StudyResults, row: dict[str, Any]) -> TrackedResult:
    classifier, scoring, control = row["classifier"], row["scoring"], row["control"]
    measures = read_measures(results, classifier, scoring, control)
    name = f"{classifier}_{scoring}" if scoring else classifier  # chance and majority have no scoring
    reference = {} if row["accuracy"] is None else {"accuracy": row["accuracy"]}
    settings = results.spec["classifiers"].get(classifier, {})
    models = results.query(
        "SELECT DISTINCT model, revision FROM predictions WHERE study = $1 AND classifier = $2 AND scoring = $3 "
        "AND control = $4 AND model IS NOT NULL ORDER BY model, revision",
        classifier,
        scoring,
        control,
    )
    tags = {
        "study": results.study,
        "classifier": classifier,
        "scoring": scoring,
        "control": control,
        "models": ", ".join(m["model"] + (f"@{m['revision']}" if m["revision"] else "") for m in models),
        "is_partial": str(row["partial"]).lower(),
        "note": row["note"] or "",
        "undefined": "; ".join(f"{measure}: {reason}" for measure, reason in measures.undefined.items()),
        "vlm_audio_pipeline": __version__,
    }
    return TrackedResult(
        name=name if control == "none" else controlled_name(name, control),
        parameters={key: _text(value) for key, value in settings.items() if value is not None},
        metrics=measures.values or reference,
        tags={key: value[:_MAX_TEXT] for key, value in tags.items() if value},
    )


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else strict_json(value))[:_MAX_TEXT]
