"""The report page of a multi-label study: leaderboard, average precision of each class, and the segments with most wrong decisions.

Belongs here: the content of the page. Does not belong here: measures (`tasks.multi_label`), and the stage (`label_stage`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets.base import ClipRow
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.presets import find_preset
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.page.media import encode_audio, encode_image
from vlm_audio_pipeline.reports.page.report_writer import FolderWriter, ReportWriter, SingleFileWriter, as_script
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.templates import fill_template
from vlm_audio_pipeline.reports.page.wording import group_by_reason
from vlm_audio_pipeline.storage.data_folder import DataFolder

MAX_SEGMENTS = 40
"""Number of segments on the page."""
SCRIPTS = ("base", "layout", "label_media")
"""The scripts of the page in the order in which they run."""
_IMAGE_RATE_HZ = 22050


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
        ranked = [row for row in board if row["control"] == "none" and row["kind"] != "reference" and row["clips"]]
        page = fill_template(
            "label_report.html",
            SCRIPTS,
            core=as_script({"outcomes": [], "runs": []}),
            study=study,
            results=results,
            board=board,
            not_run=group_by_reason(
                (row["classifier"], row["note"]) for row in board if not row["clips"] and row["kind"] != "reference"
            ),
            ranked=ranked,
            classes=class_rows(results, ranked),
            segments=write_segments(results, ranked, writer, progress),
            max_segments=MAX_SEGMENTS,
            sources=len({row["source"] for row in results.clips}),
            folds=len({row["fold"] for row in results.clips}),
            kind=writer.format.name,
        )
        return writer.finish(page)


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


def write_segments(
    results: StudyResults, ranked: Sequence[dict[str, Any]], writer: ReportWriter, progress: Progress
) -> list[dict[str, Any]]:
    """Return the segments with most wrong decisions of all classifiers together, and write their audio and images."""
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
    segments = []
    for number, clip in enumerate(chosen, 1):
        decisions = by_clip[clip["clip"]]
        segments.append(
            {
                **clip,
                **_write_media(results, clip, number, writer),
                "wrong": wrong(clip),
                "decisions": [decisions.get((entry["classifier"], entry["scoring"])) for entry in ranked],
            }
        )
        progress(number, len(chosen), "segments of the page")
    return segments


def _write_media(results: StudyResults, clip: dict[str, Any], number: int, writer: ReportWriter) -> dict[str, Any]:
    """Write the audio and the image of a segment; return their addresses, or why there are none."""
    from vlm_audio_pipeline.datasets.audio import resample

    if results.dataset is None:
        return {"audio": None, "image": None, "missing": results.dataset_missing_reason}
    rate = clip["sample_rate_hz"]
    try:
        samples = results.dataset.samples(ClipRow.from_row(clip), rate)
    except BadClips as error:
        return {"audio": None, "image": None, "missing": str(error)}
    content, media_type = encode_audio(samples, rate, writer.format)
    audio = writer.write_media(f"segment-{number}", media_type, content)
    recipe = Recipe.model_validate({**find_preset("plain").values, "width": 384, "height": 256})
    image = render(resample(samples, rate, _IMAGE_RATE_HZ), _IMAGE_RATE_HZ, recipe)
    content, media_type = encode_image(image.bytes, image.media_type, writer.format)
    return {"audio": audio, "image": writer.write_media(f"segment-{number}", media_type, content), "missing": None}
