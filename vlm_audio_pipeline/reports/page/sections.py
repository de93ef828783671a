"""The parts of the page that are tables, as its templates read them, and one line for each that has nothing to show.

What belongs here: choosing and ordering rows of tables. What does not: markup (`templates`), and charts (`static`).
"""

from collections.abc import Sequence
from typing import Any

from vlm_audio_pipeline.reports.page.known import Known
from vlm_audio_pipeline.reports.page.place import Place
from vlm_audio_pipeline.reports.page.runs import BASELINE, Run

ABSENT = {
    "contrasts": ("Comparisons", "this study declares no contrasts"),
    "controls": ("Controls", "no classifier of this study is asked about controlled pictures"),
    "projections": ("Maps of the vectors", "no projections were made of this study's encoders"),
    "reliability": ("Confidence", "no predictions with a confidence were counted"),
    "examples": ("Examples shown", "no classifier of this study is shown examples"),
    "costs": ("Cost and time", "no time, tokens or cost were recorded"),
    "embedding_quality": ("Quality of the vectors", "it was not computed"),
    "published": ("Published results", "none are known for this dataset, or they were not looked up"),
    "leakage": ("Leakage", "it was not looked for"),
    "history": ("History", "no result changed since it was first counted"),
    "flips": ("Where two classifiers differ", "there are not two to compare"),
}
"""Section -> its title, and why it is not there."""


def board_view(board: Sequence[dict[str, Any]], runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """Sort the leaderboard into what was run on real input, references, what was not run; controls stand elsewhere.

    Rows with a number get `given`: sound, picture, people, or reference where there is nothing to be given.
    """
    hears = {run.classifier: run.hears for run in runs}

    def given(row: dict[str, Any]) -> str:
        if row["kind"] == "human":
            return "people"
        if row["kind"] == "reference" or row["scoring"] == BASELINE:
            return "reference"
        return "sound" if hears[row["classifier"]] else "picture"

    real = [row for row in board if row["control"] == "none" and row["accuracy"] is not None]
    numbers = [{**row, "given": given(row)} for row in real]
    return {
        "numbers": [row for row in numbers if row["kind"] != "reference"],
        "references": [row for row in numbers if row["kind"] == "reference"],
        "not_run": [row for row in board if row["accuracy"] is None],
    }


def control_groups(runs: Sequence[Run], contrasts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the controls of each classifier and scoring beside the real thing, with their declared contrasts.

    Returns:
        For each: `classifier`, `scoring`, `real` (its row of the leaderboard, or None) and `controls`, each with `run`
        (its number on the page), `row` and `statement` (None where no test was declared).
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for i, run in enumerate(runs):
        if run.control == "none":
            continue
        key = (run.classifier, run.scoring)
        real = next((r.row for r in runs if r.control == "none" and (r.classifier, r.scoring) == key), None)
        group = groups.setdefault(
            key, {"classifier": run.classifier, "scoring": run.scoring, "real": real, "controls": []}
        )
        group["controls"].append({"run": i, "row": run.row, "statement": _of_control(run, contrasts)})
    return [groups[key] for key in sorted(groups)]


def _of_control(run: Run, contrasts: Sequence[dict[str, Any]]) -> str | None:
    """Find the statement that sets a control against the real thing."""
    for row in contrasts:
        same = {row["classifier"], row["against"]} == {run.classifier} and row["scoring"] == run.scoring
        if same and {row["control"], row["against_control"]} == {"none", run.control}:
            return row["statement"]
    return None


def findings(leakage: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort findings by how much they matter, and put those of single clips behind the one that sums them up.

    Returns:
        Summaries, worst first, each with `single`: what was found of single clips of the same kind.
    """
    order = ("leak", "suspect", "unknown", "clean")
    single: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in leakage:
        if row["clip_ids"] is not None:
            single.setdefault((row["kind"], row["subject"].partition(":")[0]), []).append(row)
    told = []
    for row in leakage:
        if row["clip_ids"] is None:
            own = single.pop((row["kind"], row["subject"]), [])
            if not row["subject"]:  # a summary of all clips: its single findings are named by clips or sources
                own += [r for key in [k for k in single if k[0] == row["kind"]] for r in single.pop(key)]
            told.append({**row, "single": own})
    told += [{**row, "single": []} for rest in single.values() for row in rest]
    return sorted(told, key=lambda row: order.index(row["severity"]) if row["severity"] in order else -1)


def quality_view(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the measures of vectors side by side: one line an encoder, one column a measure, and how each was computed."""
    names = {
        "silhouette": "silhouette",
        "knn_purity": "purity of neighbours",
        "nmi": "NMI",
        "ari": "ARI",
        "map": "mAP",
        "r_at_1": "R@1",
        "r_at_5": "R@5",
        "r_at_10": "R@10",
    }
    there = {row["measure"] for row in rows}
    measures = [(key, name) for key, name in names.items() if key in there]
    measures += [(key, key) for key in sorted(there - set(names))]
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(row["encoder"], {"encoder": row["encoder"], "model": row["model"], "claims": []})
        line[row["measure"]] = row
        if row["claim"] and row["claim"] not in line["claims"]:
            line["claims"].append(row["claim"])
    methods = {name: sorted({row["method"] for row in rows if row["measure"] == key}) for key, name in measures}
    return {"measures": measures, "lines": list(lines.values()), "methods": methods}


def measures(known: Known, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Give every further number of each run over all clips: one line a measure, one cell a run, None where undefined.

    Those the leaderboard and the costs show already are left out, and those that no run has.
    """
    shown = ("accuracy", "accuracy_low", "accuracy_high", "median_seconds", "tokens", "usd", "usd_per_correct")
    rows = known.ask(
        "SELECT classifier, scoring, control, metric, value, reason FROM metrics "
        "WHERE study = $1 AND subset = 'all' AND label = '' ORDER BY metric"
    )
    lines: dict[str, dict[tuple[str, str, str], dict[str, Any]]] = {}
    for row in rows:
        if row["metric"] not in shown:
            lines.setdefault(row["metric"], {})[row["classifier"], row["scoring"], row["control"]] = row
    keys = [(run.classifier, run.scoring, run.control) for run in runs]
    return [
        {"name": name.replace("_", " "), "cells": [cells.get(key) for key in keys]}
        for name, cells in lines.items()
        if any(cells[key]["value"] is not None for key in keys if key in cells)
    ]


def changed(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the history of what ever changed: a first result by itself tells nothing."""
    entries: dict[tuple[str, ...], int] = {}
    for row in history:
        key = (row["classifier"], row["scoring"], row["control"])
        entries[key] = entries.get(key, 0) + 1
    return [row for row in history if entries[row["classifier"], row["scoring"], row["control"]] > 1]


def costs(known: Known) -> list[dict[str, Any]]:
    """Give what each run took, where anything was recorded: seconds, tokens, USD, and USD a correct prediction."""
    return known.ask(
        """SELECT classifier, scoring, control, count(*) AS predictions, sum(correct::INT) AS correct,
            sum(seconds) AS seconds, median(seconds) AS median_seconds, sum(tokens)::BIGINT AS tokens, sum(usd) AS usd,
            sum(usd) / nullif(sum(correct::INT), 0) AS usd_per_correct,
            min(answered_at)::DATE::VARCHAR AS first_day, max(answered_at)::DATE::VARCHAR AS last_day
        FROM predictions WHERE study = $1 GROUP BY ALL
        HAVING count(seconds) + count(tokens) + count(usd) > 0 ORDER BY classifier, scoring, control"""
    )


def provenance(known: Known) -> dict[str, Any]:
    """Give what the results were made from: the steps with their versions, models, and the dataset's card."""
    steps: dict[str, dict[str, Any]] = {}
    for _, part in known.provenances():
        line = steps.setdefault(
            part.step, {"step": part.step, "parts": 0, "versions": set(), "data": [], "made": "", "package": set()}
        )
        line["parts"] += 1
        line["versions"].add(part.version)
        if part.data_version[:12] not in line["data"]:
            line["data"].append(part.data_version[:12])
        line["made"] = max(line["made"], str(part.details.get("made_at", "")))
        line["package"].add(str(part.details.get("package_version", "?")))
    models = known.ask(
        """SELECT classifier, kind, string_agg(DISTINCT model, ', ') AS model, string_agg(DISTINCT revision, ', ') AS revision,
            string_agg(DISTINCT prompt, ', ') AS prompt, max(shots) AS shots, max(training_clips) AS training_clips
        FROM predictions WHERE study = $1 GROUP BY ALL ORDER BY classifier"""
    )
    return {
        "steps": [steps[name] for name in sorted(steps)],
        "models": models,
        "card": known.card,
        "attribution": known.attribution(),
    }


def write_projections(known: Known, where: Place) -> list[dict[str, Any]]:
    """Write the points of each projection, [clip, x, y], and give what there is: encoder, method, axes, data's name."""
    told = []
    for i, row in enumerate(known.rows_of_projections()):
        points = known.points(row["encoder"], row["method"])
        where.chunk(f"projection-{i}", ([known.number[c], x, y] for c, x, y in points if c in known.number))
        told.append({**row, "data": f"projection-{i}"})
    return told


def write_examples(known: Known, runs: Sequence[Run], where: Place) -> list[dict[str, Any]]:
    """Write which examples each classifier was shown: [fold, trial, query or null, [[clip, shown label], ...]]."""
    told = []
    names = known.ask("SELECT DISTINCT classifier FROM examples WHERE study = $1 ORDER BY classifier")
    for i, name in enumerate(row["classifier"] for row in names):
        pictures = next((r.pictures for r in runs if r.classifier == name and r.control == "none"), None)
        where.chunk(f"examples-{i}", known.examples(name))
        told.append({"classifier": name, "pictures": pictures, "data": f"examples-{i}"})
    return told
