"""Write the report of a study: one page with its tables, images, audio and predictions.

Belongs here: the order in which the report is written. The content is in `key_findings`, `failures`, `sections`, `runs`
and `media`; `report_writer` writes to disk.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.evaluation.hearing import MARGIN
from vlm_audio_pipeline.measures.declarations import measures_for_display
from vlm_audio_pipeline.reports.page import sections
from vlm_audio_pipeline.reports.page.changed_audio import changed_audio, perturbations
from vlm_audio_pipeline.reports.page.controls import control_groups
from vlm_audio_pipeline.reports.page.key_findings import best_run, key_findings
from vlm_audio_pipeline.reports.page.leakage_findings import LEAKAGE_TITLES, SEVERITY_WORDS, leakage_findings
from vlm_audio_pipeline.reports.page.media import Media, write_media
from vlm_audio_pipeline.reports.page.page_images import PAGE_IMAGES
from vlm_audio_pipeline.reports.page.report_writer import (
    FolderWriter,
    ReportWriter,
    SingleFileWriter,
    as_script,
)
from vlm_audio_pipeline.reports.page.requests import write_requests
from vlm_audio_pipeline.reports.page.runs import OUTCOMES, PageRun, page_runs, write_predictions
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.templates import fill_template
from vlm_audio_pipeline.reports.page.verdicts import page_caution, reason_without_verdicts, verdict_view
from vlm_audio_pipeline.reports.page.wording import KINDS
from vlm_audio_pipeline.storage.data_folder import DataFolder

SCRIPTS = (
    *(
        "base",
        "layout",
        "axes",
        "cards",
        "transcripts",
        "one_clip",
        "leaderboard",
        "clips",
        "comparison",
        "maps",
        "reliability",
    ),
    "start",
)
"""The page's scripts, in the order in which they run."""
_TABLES = (
    "verdicts",
    "contrasts",
    "reliability",
    "embedding_quality",
    "embedding_comparisons",
    "published",
    "leakage",
    "history",
)


def write_report(
    data_folder: DataFolder, study: str, out: Path, *, single_file: bool = False, progress: Progress = no_progress
) -> Path:
    """Write the report of a study. It opens from disk and needs no network.

    The page lists missing results: classifiers that were not run, tables that were not computed, recordings that are
    not on this machine.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        out: the folder to write, which must be new, empty or an earlier report; or the file, for `single_file`.
        single_file: write one file with thumbnails and audio of a limited number of clips (`report_writer.SINGLE_FILE`).
        progress: callback `(done, total, description)`.

    Returns:
        The file to open: `index.html` in the folder, or the single file.

    Raises:
        VlmAudioError: when no such study was run, partition files are damaged, or `out` has other content.
    """
    out = out.absolute()
    with (
        StudyResults.open(data_folder, study) as results,
        (SingleFileWriter if single_file else FolderWriter)(out) as writer,
    ):
        return writer.finish(_write_page(results, writer, progress))


def _write_page(results: StudyResults, writer: ReportWriter, progress: Progress) -> str:
    """Write the data and media, and return the page."""
    leaderboard = results.query(
        "SELECT * FROM leaderboard WHERE study = $1 ORDER BY rank NULLS LAST, accuracy DESC NULLS LAST, classifier"
    )
    tables = {name: results.rows(name) for name in _TABLES}
    runs = page_runs(results, leaderboard)
    clip_fields = ("clip", "fold", "source", "duration_s")
    writer.write_data("clips", ([clip[name] for name in clip_fields] for clip in results.clips))
    reader = write_predictions(results, runs, writer, progress)
    cost_totals = sections.cost_totals(results)
    requests_of = {row["classifier"]: row["requests"] for row in cost_totals["rows"]}
    prompts = [
        {**entry, "sent": requests_of.get(entry["classifier"])}
        for entry in write_requests(results, list(reader.classifiers.values()), writer)
    ]
    projections = sections.write_projections(results, writer)
    image_sets = list(dict.fromkeys(run.image_set for run in runs if run.image_set))
    media = write_media(results, image_sets, writer, progress)
    changes = perturbations(results)
    chance = 1 / len(results.classes) if results.classes else None
    content: dict[str, Any] = {
        **tables,
        "history": sections.changed_results(tables["history"]),
        "leakage": leakage_findings(tables["leakage"]),
        "controls": control_groups(results, runs, tables["contrasts"], tables["verdicts"], changes),
        "costs": sections.costs(results),
        "projections": projections,
        "prompts": prompts,
        "comparison": runs if len({run.name for run in runs if run.control == "none"}) > 1 else [],
    }
    board = sections.leaderboard_view(leaderboard, runs)
    core = _core(results, runs, media) | {
        "reliability": _reliability_bins(runs, tables["reliability"]),
        "projections": projections,
        "prompts": prompts,
        "first_clip": sections.first_clip(results, media),
        "best_run": best_run(runs),
    }
    return fill_template(
        "page.html",
        SCRIPTS,
        study=results.study,
        results=results,
        verdicts=verdict_view(tables["verdicts"]),
        no_verdicts=reason_without_verdicts(results.spec),
        caution=page_caution(results, tables["verdicts"]),
        margin=f"{100 * MARGIN:.0f}",
        key_findings=key_findings(
            results,
            runs,
            tables["contrasts"],
            content["leakage"],
            sum(len(group.names) for group in board["not_run"]),
            tables["verdicts"],
        ),
        board=board,
        board_measures=measures_for_display("page"),
        chance=chance,
        changed_audio=changed_audio(runs, changes, chance),
        content=content,
        contrast_axis=sections.contrast_axis(tables["contrasts"]),
        further_measures=sections.further_measures(results, runs),
        quality=sections.embedding_quality_view(tables["embedding_quality"], tables["embedding_comparisons"]),
        missing=sections.missing_sections(content),
        cost_totals=cost_totals if content["costs"] else None,
        leakage_titles=LEAKAGE_TITLES,
        severity_words=SEVERITY_WORDS,
        inputs=sections.INPUTS,
        first_clip=core["first_clip"],
        media=media,
        provenance=sections.provenance(results),
        sources=len({row["source"] for row in results.clips}),
        folds=sorted({row["fold"] for row in results.clips}),
        runs=runs,
        study_file=json.dumps(results.spec, indent=1, ensure_ascii=False),
        core=as_script(core),
        kind=writer.format.name,
    )


def _core(results: StudyResults, runs: Sequence[PageRun], media: Media) -> dict[str, Any]:
    """Return the data that the scripts need when the page opens; predictions and projections are loaded on demand."""
    clips = range(len(results.clips))
    classifiers = list(dict.fromkeys(run.classifier for run in runs))
    return {
        "classes": results.classes,
        "outcomes": [*OUTCOMES, "no majority"],
        "labels": [results.class_number[row["label"]] for row in results.clips],
        "runs": [
            {**run.json_values(len(clips)), "data": f"predictions-{classifiers.index(run.classifier)}"} for run in runs
        ],
        "page_images": PAGE_IMAGES,
        "kinds": KINDS,
        "images": {name: [names.get(i) for i in clips] for name, names in media.images.items()},
        "axes": media.axes,
        "audio": [media.audio.get(i) for i in clips],
    }


def _reliability_bins(runs: Sequence[PageRun], reliability: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Return the bins of the runs on the page: [run, variant, bin, count, confidence, accuracy]."""
    run_numbers = {(run.classifier, run.scoring, run.control): i for i, run in enumerate(runs)}
    numbered = ((run_numbers.get((row["classifier"], row["scoring"], row["control"])), row) for row in reliability)
    columns = ("variant", "bin", "count", "confidence", "accuracy")
    return [[run, *(row[column] for column in columns)] for run, row in numbered if run is not None]
