"""The report page of a multi-label study: findings, leaderboard, contrasts, average precision of each class, events, and the segments with most wrong decisions.

Belongs here: the content of the page. Does not belong here: measures (`tasks.multi_label`), and the stage (`label_stage`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.reports.page.label_events import (
    min_overlap,
    order_clips,
    overlap_rule,
    read_events,
    recording_ends,
    recording_names,
    write_events,
)
from vlm_audio_pipeline.reports.page.label_findings import label_findings
from vlm_audio_pipeline.reports.page.label_recordings import equal_scores_cmap, recording_rows
from vlm_audio_pipeline.reports.page.label_runs import LabelRun, label_runs, write_decisions
from vlm_audio_pipeline.reports.page.leakage_findings import LEAKAGE_TITLES, SEVERITY_WORDS, leakage_findings
from vlm_audio_pipeline.reports.page.media import Media, write_media
from vlm_audio_pipeline.reports.page.page_images import PAGE_IMAGES, segment_recipe
from vlm_audio_pipeline.reports.page.report_writer import (
    FOLDER,
    FolderWriter,
    ReportWriter,
    SingleFileWriter,
    as_script,
)
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.templates import fill_template
from vlm_audio_pipeline.reports.page.wording import group_by_reason
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.tasks.multi_label.chance import DRAWINGS
from vlm_audio_pipeline.tasks.multi_label.comparison import ORDERS
from vlm_audio_pipeline.tasks.multi_label.references import CONSTANT

MAX_SEGMENTS = 40
"""Number of segments on the page."""
SCRIPTS = ("base", "layout", "axes", "segments", "decisions", "timeline", "events", "label_start")
"""The scripts of the page in the order in which they run."""


def write_label_report(
    data_folder: DataFolder, study: str, out: Path, *, single_file: bool = False, progress: Progress = no_progress
) -> Path:
    """Write the report page of a multi-label study.

    Args:
        data_folder: the data folder.
        study: name of the study.
        out: the folder to write, which must be new, empty or an earlier report; or the file, for `single_file`.
        single_file: write one file.
        progress: callback `(done, total, description)`.

    Returns:
        The file to open: `index.html` in the folder, or the single file.

    Raises:
        VlmAudioError: when no such study was run, partition files are damaged, or `out` has other content.
    """
    with (
        StudyResults.open(data_folder, study) as results,
        (SingleFileWriter if single_file else FolderWriter)(out.absolute()) as writer,
    ):
        board = results.query(
            "SELECT * FROM multi_label_leaderboard WHERE study = $1 ORDER BY rank NULLS LAST, cmap DESC NULLS LAST, classifier, control"
        )
        contrasts = results.query("SELECT * FROM multi_label_contrasts WHERE study = $1 ORDER BY position")
        ranked = [row for row in board if row["control"] == "none" and row["kind"] != "reference" and row["clips"]]
        runs = label_runs(results, ranked)
        segments = list_segments(results, ranked)
        content = _write_content(results, runs, [segment["number"] for segment in segments], writer, progress)
        page = fill_template(
            "label_report.html",
            SCRIPTS,
            core=as_script(content["core"]),
            study=study,
            results=results,
            is_demonstration=results.card is not None and results.card.is_demonstration,
            label_counts=label_counts(results),
            inputs=_inputs(results),
            board=board,
            not_run=group_by_reason(
                (row["classifier"], row["note"]) for row in board if not row["clips"] and row["kind"] != "reference"
            ),
            contrasts=contrasts,
            tie_orders=ORDERS,
            chance_drawings=DRAWINGS,
            has_language_model=any(row["kind"] == "language_model" for row in board),
            has_blank_scores=any(row["control"] == "blank" and row["cmap"] is not None for row in board),
            recordings=recording_rows(results),
            recordings_constant=equal_scores_cmap(results),
            overlap_rule=overlap_rule(min_overlap(results)),
            findings=label_findings(board, contrasts),
            leakage=leakage_findings(results.query("SELECT * FROM leakage WHERE study = $1 ORDER BY kind, subject")),
            leakage_titles=LEAKAGE_TITLES,
            severity_words=SEVERITY_WORDS,
            ranked=ranked,
            classes=class_rows(results, ranked),
            segments=segments,
            max_segments=MAX_SEGMENTS,
            events=content["events"],
            media=content["media"],
            sources=len({row["source"] for row in results.clips}),
            folds=len({row["fold"] for row in results.clips}),
            kind=writer.format.name,
        )
        return writer.finish(page)


def label_counts(results: StudyResults) -> list[tuple[int, int]]:
    """Return how many clips have how many classes: (classes, clips), by the number of classes."""
    rows = results.query(
        "WITH of_clip AS (SELECT clip, count(*) AS n FROM clip_labels WHERE study = $1 GROUP BY clip) "
        "SELECT coalesce(n, 0) AS n, count(*) AS clips FROM clips LEFT JOIN of_clip USING (clip) WHERE study = $1 GROUP BY 1 ORDER BY 1"
    )
    return [(row["n"], row["clips"]) for row in rows]


def _inputs(results: StudyResults) -> dict[str, str]:
    """Return what each classifier receives, in words."""
    classifiers, encoders = (results.spec.get(name, {}) for name in ("classifiers", "encoders"))
    rendering = {
        name: spec.get("rendering") or encoders.get(spec.get("encoder"), {}).get("rendering")
        for name, spec in classifiers.items()
    }
    return {name: "image" if value else "audio" for name, value in rendering.items()} | {CONSTANT: ""}


def class_rows(results: StudyResults, ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each class: its name, its number of positive clips, and the `ap` row of each classifier, or None."""
    rows = results.query(
        "SELECT * FROM multi_label_metrics WHERE study = $1 AND metric = 'ap' AND subset = 'all' AND control = 'none'"
    )
    found = {(row["label"], row["classifier"], row["scoring"]): row for row in rows}
    positives: dict[str, int] = {}
    for row in rows:
        positives[row["label"]] = max(positives.get(row["label"], 0), row["positives"])
    return [
        {
            "label": label,
            "positives": count,
            "values": [found.get((label, entry["classifier"], entry["scoring"])) for entry in ranked],
        }
        for label, count in sorted(positives.items())
    ]


def list_segments(results: StudyResults, ranked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the segments with most wrong decisions of all classifiers together: clips with their `number` and the decisions."""
    rows = results.query(
        "SELECT clip, classifier, scoring, any_value(outcome) FILTER (outcome <> 'answered') AS failure, "
        "list(label ORDER BY label) FILTER (truth AND predicted) AS hits, "
        "list(label ORDER BY label) FILTER (truth AND NOT predicted) AS misses, "
        "list(label ORDER BY label) FILTER (NOT truth AND predicted) AS false_alarms "
        "FROM multi_label_predictions WHERE study = $1 AND control = 'none' AND trial = 0 GROUP BY clip, classifier, scoring"
    )
    by_clip: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for row in rows:
        by_clip.setdefault(row["clip"], {})[row["classifier"], row["scoring"]] = row

    def wrong(clip: dict[str, Any]) -> int:
        decisions = by_clip.get(clip["clip"], {}).values()
        return sum(len(d["misses"] or ()) + len(d["false_alarms"] or ()) for d in decisions)

    chosen = sorted((c for c in results.clips if wrong(c)), key=lambda c: (-wrong(c), c["clip"]))[:MAX_SEGMENTS]
    return [
        {
            **clip,
            "number": results.clip_number[clip["clip"]],
            "wrong": wrong(clip),
            "decisions": [by_clip[clip["clip"]].get((entry["classifier"], entry["scoring"])) for entry in ranked],
        }
        for clip in chosen
    ]


def _write_content(
    results: StudyResults, runs: Sequence[LabelRun], first: Sequence[int], writer: ReportWriter, progress: Progress
) -> dict[str, Any]:
    """Write images, audio, events and decisions; return the events, the media, and the data that the scripts need when the page opens.

    Args:
        results: the study.
        runs: the runs on the page.
        first: numbers of the clips that need images and audio most. In a study without events, no other clip has them.
        writer: the writer of the report.
        progress: callback `(done, total, description)`.
    """
    classes = _page_classes(results)
    events = read_events(results)
    selected = order_clips(results, events, first) if events else list(first)
    page_recipe = segment_recipe(results) if results.dataset and results.clips else None
    image_sets = list(dict.fromkeys(run.image_set for run in runs if run.image_set))
    media = write_media(results, image_sets, writer, progress, selected=selected, page_recipe=page_recipe)
    if PAGE_IMAGES in media.images:  # it is the first one that the page shows
        media.images = {PAGE_IMAGES: media.images.pop(PAGE_IMAGES), **media.images}
    if events and writer.format == FOLDER and len(media.audio) < len(results.clips):
        media.notes.insert(0, _choice_note(len(media.audio), len(results.clips)))
    write_events(results, runs, classes, events, media, page_recipe, writer)
    has_all = events and (writer.format == FOLDER or len(results.clips) <= FOLDER.max_clips)
    write_decisions(results, runs, classes, None if has_all else set(media.audio), writer)
    return {"events": events, "media": media, "core": _core(results, runs, classes, media)}


def _core(results: StudyResults, runs: Sequence[LabelRun], classes: Sequence[str], media: Media) -> dict[str, Any]:
    clips = range(len(results.clips))
    return {
        "classes": list(classes),
        "outcomes": [],
        "runs": [run.json_values(i) for i, run in enumerate(runs)],
        "recordings": recording_names(results),
        "ends": recording_ends(results),
        "min_overlap_s": min_overlap(results),
        "page_images": PAGE_IMAGES,
        "images": {name: [names.get(i) for i in clips] for name, names in media.images.items()},
        "axes": media.axes,
        "audio": [media.audio.get(i) for i in clips],
        "unreadable": media.unreadable,
        "missing": results.dataset_missing_reason,
        "max_clips": len(media.audio),
    }


def _page_classes(results: StudyResults) -> list[str]:
    """Return the classes: those of the dataset in its own order, then those that occur only in stored rows."""
    rows = results.query(
        "SELECT label FROM multi_label_predictions WHERE study = $1 UNION SELECT label FROM clip_labels WHERE study = $1 "
        "UNION SELECT label FROM clip_events WHERE study = $1 ORDER BY label"
    )
    return list(dict.fromkeys([*(results.dataset.classes if results.dataset else ()), *(row["label"] for row in rows)]))


def _choice_note(clips: int, all_clips: int) -> str:
    return (
        f"Images and audio of {clips:,} of {all_clips:,} segments are on this page: those with most wrong decisions, then those with an event, "
        "balanced over the classes. All events and decisions are on it."
    )
