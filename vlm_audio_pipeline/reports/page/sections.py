"""Select and order the rows of each table on the page; and the reason for each section that is missing."""

from collections.abc import Sequence
from typing import Any

from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.evaluation.clip_sample import SAMPLED
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN, result_name
from vlm_audio_pipeline.measures.declarations import measures_for_display
from vlm_audio_pipeline.reports.page.media import Media
from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.ticks import linear_ticks
from vlm_audio_pipeline.reports.page.wording import SECTION_TITLES, group_by_reason

MISSING_SECTIONS = {
    "contrasts": "the study declares no contrasts",
    "controls": "no classifier of the study has controls",
    "projections": "no projections were computed",
    "reliability": "no predictions have a confidence",
    "prompts": "no language model has responses",
    "costs": "no times, tokens or costs were recorded",
    "embedding_quality": "it was not computed",
    "published": "no classifier of the study repeats a published result",
    "leakage": "they were not run",
    "history": "no result has changed since it was first computed",
    "comparison": "fewer than two classifiers have results",
}
"""Content of a section -> why it is not on the page."""
_SECTION_OF_CONTENT = {"projections": "maps", "embedding_quality": "quality"}

_NUMBERS = ("macro_f1",)
"""Measures with a unit "share of 1" that are not written in percent: F1 is a mean, not a share of clips."""
_EMBEDDING_MEASURES = {
    "silhouette": "silhouette",
    "knn_purity": "k-NN purity",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "map": "mAP",
    "r_at_1": "R@1",
    "r_at_5": "R@5",
    "r_at_10": "R@10",
}
INPUTS = {
    "audio": "audio input",
    "image": "image input only",
    "annotators": "human annotators",
    "reference": "reference without a model",
}
"""Input of a row of the leaderboard -> its words."""


def leaderboard_view(leaderboard: Sequence[dict[str, Any]], runs: Sequence[PageRun]) -> dict[str, Any]:
    """Split the leaderboard into results, references and classifiers that were not run. Controls are not included.

    Rows with an accuracy get `name`, the name for people, and `input`, a key of `INPUTS`; rows without a model are references.

    Returns:
        `results`, `references`: rows; `not_run`: `NamedReason` of classifiers without an accuracy; `columns`: the columns that can be sorted, and their headings.
    """
    takes_audio = {run.classifier: run.takes_audio for run in runs}

    def input_of(row: dict[str, Any]) -> str:
        if row["kind"] == "annotations":
            return "annotators"
        if row["kind"] == "reference" or row["scoring"] == EXAMPLES_KNN:
            return "reference"
        return "audio" if takes_audio[row["classifier"]] else "image"

    originals = [row for row in leaderboard if row["control"] == "none" and row["accuracy"] is not None]
    rows = [
        {**row, "input": input_of(row), "name": result_name(row["classifier"], row["scoring"])} for row in originals
    ]
    return {
        "results": [row for row in rows if row["kind"] != "reference"],
        "references": [row for row in rows if row["kind"] == "reference"],
        "not_run": group_by_reason(
            (row["classifier"], row["note"])
            for row in leaderboard
            if row["accuracy"] is None and row["kind"] != "reference"
        ),
        "columns": {
            "rank": "rank",
            "name": "classifier",
            "accuracy": "accuracy",
            **{measure.name: measure.heading for measure in measures_for_display("page")},
            "training_clips": "training clips",
        },
    }


def missing_sections(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the title of each section that has no content, and why."""
    return [
        (SECTION_TITLES[_SECTION_OF_CONTENT.get(name, name)], reason)
        for name, reason in MISSING_SECTIONS.items()
        if not content[name]
    ]


def contrast_axis(contrasts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the axis of the contrasts' intervals: `end`, a little more than the largest difference, and `ticks`, shares of 1."""
    values = [abs(row[key]) for row in contrasts if row["low"] is not None for key in ("low", "high", "difference")]
    end = 1.04 * max([0.05, *values])
    return {"end": end, "ticks": linear_ticks(-end, end, 9)}


def embedding_quality_view(
    rows: Sequence[dict[str, Any]], comparisons: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the embedding measures as tables.

    Returns:
        `measures` (columns), `rows` (one for each encoder), `methods` and `samples` (sizes, if not all clips were used);
        `compared` (columns) and `pairs` (one for each pair of encoders) of the comparisons.
    """
    computed = {row["measure"] for row in rows}
    measures = [(key, title) for key, title in _EMBEDDING_MEASURES.items() if key in computed]
    measures += [(key, key) for key in sorted(computed - set(_EMBEDDING_MEASURES))]
    encoders: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = encoders.setdefault(row["encoder"], {"encoder": row["encoder"], "model": row["model"], "claims": []})
        line[row["measure"]] = row
        if row["claim"] and row["claim"] not in line["claims"]:
            line["claims"].append(row["claim"])
    methods = {title: sorted({row["method"] for row in rows if row["measure"] == key}) for key, title in measures}
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for row in comparisons:
        pair = {"encoder": row["encoder"], "against": row["against"]}
        pairs.setdefault((row["encoder"], row["against"]), pair)[row["measure"]] = row
    compared = [(key, title) for key, title in measures if any(key in pair for pair in pairs.values())]
    return {
        "measures": measures,
        "rows": list(encoders.values()),
        "methods": methods,
        "samples": sorted({row["method"].partition(SAMPLED)[2] for row in rows if SAMPLED in row["method"]}),
        "compared": compared,
        "pairs": list(pairs.values()),
    }


def further_measures(results: StudyResults, runs: Sequence[PageRun]) -> list[dict[str, Any]]:
    """Return the measures declared for the page's details, over all clips.

    Each has `title`, `description`, `is_percentage` (whether it is written in percent), and `cells`, one per run. A cell is a row of
    `metrics`, or None. Measures that no run has are left out.
    """
    rows = results.query(
        "SELECT classifier, scoring, control, metric, value, reason FROM metrics "
        "WHERE study = $1 AND subset = 'all' AND label = '' ORDER BY metric"
    )
    declared = {m.name: m for m in measures_for_display("page_details")}
    cells: dict[str, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for row in rows:
        if row["metric"] in declared:
            cells.setdefault(row["metric"], {})[row["classifier"], row["scoring"], row["control"]] = row
    keys = [(run.classifier, run.scoring, run.control) for run in runs]
    return [
        {
            "title": declared[name].heading,
            "description": declared[name].documentation.replace("`", ""),
            "is_percentage": declared[name].unit == "share of 1" and name not in _NUMBERS,
            "cells": [by_run.get(key) for key in keys],
        }
        for name, by_run in cells.items()
        if any(by_run[key]["value"] is not None for key in keys if key in by_run)
    ]


def changed_results(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the history of results that have more than one entry."""
    entries: dict[tuple[str, ...], int] = {}
    for row in history:
        key = (row["classifier"], row["scoring"], row["control"])
        entries[key] = entries.get(key, 0) + 1
    return [row for row in history if entries[row["classifier"], row["scoring"], row["control"]] > 1]


def costs(results: StudyResults) -> list[dict[str, Any]]:
    """Return time (s), tokens and cost (USD) of each run that recorded at least one of them."""
    return results.query(
        """SELECT classifier, scoring, control, count(*) AS predictions, sum(correct::INT) AS correct,
            sum(seconds) AS seconds, median(seconds) AS median_seconds, sum(tokens)::BIGINT AS tokens, sum(usd) AS usd,
            sum(usd) / nullif(sum(correct::INT) FILTER (usd IS NOT NULL), 0) AS usd_per_correct,
            min(answered_at)::DATE::VARCHAR AS first_day, max(answered_at)::DATE::VARCHAR AS last_day
        FROM predictions WHERE study = $1 GROUP BY ALL
        HAVING count(seconds) + count(tokens) + count(usd) > 0 ORDER BY classifier, scoring, control"""
    )


def cost_totals(results: StudyResults) -> dict[str, Any]:
    """Return requests, time (s), tokens and cost (USD) of each classifier (`rows`) and of all (`total`).

    A reply that several rows of `responses` record counts once: rows of one reply have the same time and number of tokens, and
    rows with the same result keys share one reply.
    """
    rows = results.query(
        """WITH replies AS (
            SELECT classifier, string_agg(result_key, ' ' ORDER BY scoring) AS keys, any_value(seconds) AS seconds,
                any_value(input_tokens) + coalesce(max(output_tokens), 0) AS tokens, sum(usd) AS usd
            FROM responses WHERE study = $1 GROUP BY classifier, control, trial, clip, seconds, input_tokens
        ), distinct_replies AS (
            SELECT classifier, any_value(seconds) AS seconds, any_value(tokens) AS tokens, max(usd) AS usd
            FROM replies GROUP BY classifier, keys
        ), others AS (
            SELECT classifier, NULL::BIGINT AS requests, sum(seconds) AS seconds, sum(tokens)::BIGINT AS tokens, sum(usd) AS usd
            FROM predictions WHERE study = $1 AND classifier NOT IN (SELECT classifier FROM responses WHERE study = $1)
            GROUP BY classifier HAVING count(seconds) + count(tokens) + count(usd) > 0
        )
        SELECT classifier, count(*) AS requests, sum(seconds) AS seconds, sum(tokens)::BIGINT AS tokens, sum(usd) AS usd
        FROM distinct_replies GROUP BY classifier UNION ALL SELECT * FROM others ORDER BY classifier"""
    )
    columns = ("requests", "seconds", "tokens", "usd")
    recorded = {name: [row[name] for row in rows if row[name] is not None] for name in columns}
    return {"rows": rows, "total": {name: sum(values) if values else None for name, values in recorded.items()}}


def first_clip(results: StudyResults, media: Media) -> int | None:
    """Return the number of the clip at the top of the page: of the first clip of each class that has an image or audio, one; or None."""
    with_media = {clip for names in (media.audio, *media.images.values()) for clip in names}
    first: dict[str, int] = {}
    for clip in sorted(with_media):
        first.setdefault(results.clips[clip]["label"], clip)
    return min(first.values(), key=lambda clip: digest(results.clips[clip]["clip"].encode()), default=None)


def provenance(results: StudyResults) -> dict[str, Any]:
    """Return the provenance of the results: steps with their versions, models, and the dataset card."""
    steps: dict[str, dict[str, Any]] = {}
    for _, file_provenance in results.provenances():
        step = steps.setdefault(
            file_provenance.step,
            {
                "step": file_provenance.step,
                "partition_files": 0,
                "versions": set(),
                "data_versions": [],
                "made_at": "",
                "package_versions": set(),
            },
        )
        step["partition_files"] += 1
        step["versions"].add(file_provenance.version)
        if file_provenance.data_version[:12] not in step["data_versions"]:
            step["data_versions"].append(file_provenance.data_version[:12])
        step["made_at"] = max(step["made_at"], str(file_provenance.details.get("made_at", "")))
        step["package_versions"].add(str(file_provenance.details.get("package_version", "?")))
    models = results.query(
        """SELECT classifier, kind, string_agg(DISTINCT model, ', ') FILTER (scoring <> $2) AS model,
            string_agg(DISTINCT model, ', ') FILTER (scoring = $2) AS examples_model,
            string_agg(DISTINCT revision, ', ') FILTER (scoring <> $2) AS revision, string_agg(DISTINCT prompt, ', ') AS prompt,
            max(shots) AS shots FROM predictions WHERE study = $1 GROUP BY ALL ORDER BY classifier""",
        EXAMPLES_KNN,
    )
    for row in models:
        row["prompt"] = row["prompt"] or _template(results.spec.get("classifiers", {}).get(row["classifier"], {}))
    return {
        "steps": [steps[name] for name in sorted(steps)],
        "models": models,
        "card": results.card,
        "attribution": results.attribution(),
    }


def _template(classifier: dict[str, Any]) -> str | None:
    """Return the templates of a zero-shot classifier, which are its prompt; None for any other classifier."""
    from vlm_audio_pipeline.classifiers.zero_shot import ZeroShot

    if classifier.get("kind") != "zero_shot":
        return None
    return ZeroShot.model_validate({k: v for k, v in classifier.items() if k != "kind"}).template_text


def write_projections(results: StudyResults, writer: ReportWriter) -> list[dict[str, Any]]:
    """Write the points [clip, x, y] of each projection; return its encoder, method, explained variance and data key."""
    projections = []
    for i, row in enumerate(results.projections()):
        points = results.projected_points(row["encoder"], row["method"])
        numbers = results.clip_number
        writer.write_data(f"projection-{i}", ([numbers[c], x, y] for c, x, y in points if c in numbers))
        projections.append({**row, "data": f"projection-{i}"})
    return projections
