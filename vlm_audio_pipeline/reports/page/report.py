"""Write the report of a study: one page with its tables, images, audio and predictions.

Belongs here: the order in which the report is written. The content is in `key_findings`, `failures`, `sections`, `runs`
and `media`; `report_writer` writes to disk.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.measures.declarations import shown_measures
from vlm_audio_pipeline.reports.page import sections
from vlm_audio_pipeline.reports.page.key_findings import key_findings
from vlm_audio_pipeline.reports.page.media import PAGE_IMAGES, Media, write_media
from vlm_audio_pipeline.reports.page.report_writer import (
    DATA_PLACEHOLDER,
    META_NAME,
    FolderWriter,
    ReportWriter,
    SingleFileWriter,
    as_script,
)
from vlm_audio_pipeline.reports.page.runs import EXAMPLES_KNN, OUTCOMES, PageRun, page_runs, write_predictions
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import DEFAULT_SCORINGS, KINDS, percent
from vlm_audio_pipeline.storage.data_folder import DataFolder

SCRIPTS = ("base", "cards", "clips", "comparison", "maps", "reliability", "examples", "start")
"""The page's scripts, in the order in which they run."""
_TABLES = ("contrasts", "reliability", "embedding_quality", "published", "leakage", "history")


def write_report(
    data_folder: DataFolder, study: str, out: Path, *, single_file: bool = False, progress: Progress = no_progress
) -> Path:
    """Write the report of a study. It opens from disk and needs no network.

    The page lists what is missing: classifiers that were not run, tables that were not computed, recordings that are
    not on this machine.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        out: the folder to write, which must be new, empty or an earlier report; or the file, for `single_file`.
        single_file: write one file with thumbnails and audio of a limited number of clips (`report_writer.SINGLE_FILE`).
        progress: callback `(done, total, what)`.

    Returns:
        The file to open: `index.html` in the folder, or the single file.

    Raises:
        VlmAudioError: when no such study was run, partition files are damaged, or `out` has other content.
    """
    results = StudyResults.load(data_folder, study)
    out = out.absolute()
    with (SingleFileWriter if single_file else FolderWriter)(out) as writer:
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
    write_predictions(results, runs, writer, progress)
    projections = sections.write_projections(results, writer)
    examples = sections.write_examples(results, runs, writer)
    image_sets = list(dict.fromkeys(run.image_set for run in runs if run.image_set))
    media = write_media(results, image_sets, writer, progress)
    content: dict[str, Any] = {
        **tables,
        "history": sections.changed_results(tables["history"]),
        "leakage": sections.leakage_findings(tables["leakage"]),
        "controls": sections.control_groups(runs, tables["contrasts"]),
        "costs": sections.costs(results),
        "projections": projections,
        "examples": examples,
        "comparison": runs if len({run.name for run in runs if run.control == "none"}) > 1 else [],
    }
    board = sections.leaderboard_view(leaderboard, runs)
    core = _core(results, runs, media) | {
        "reliability": _reliability_bins(runs, tables["reliability"]),
        "projections": projections,
        "examples": examples,
    }
    return _fill_template(
        study=results.study,
        results=results,
        key_findings=key_findings(results, runs, tables["contrasts"], content["leakage"], len(board["not_run"])),
        board=board,
        board_measures=shown_measures("page"),
        chance=1 / len(results.classes) if results.classes else None,
        content=content,
        further_measures=sections.further_measures(results, runs),
        quality=sections.embedding_quality_view(tables["embedding_quality"]),
        missing=[reason for name, reason in sections.MISSING_SECTIONS.items() if not content[name]],
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
    """Return the data that the scripts need from the start; predictions and projections are loaded on demand."""
    clips = range(len(results.clips))
    classifiers = list(dict.fromkeys(run.classifier for run in runs))
    return {
        "classes": results.classes,
        "outcomes": OUTCOMES,
        "labels": [results.class_number[row["label"]] for row in results.clips],
        "runs": [
            {**run.for_page(len(clips)), "data": f"predictions-{classifiers.index(run.classifier)}"} for run in runs
        ],
        "page_images": PAGE_IMAGES,
        "images": {name: [names.get(i) for i in clips] for name, names in media.images.items()},
        "audio": [media.audio.get(i) for i in clips],
    }


def _reliability_bins(runs: Sequence[PageRun], reliability: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """Return the bins of the runs on the page: [run, variant, bin, count, confidence, accuracy]."""
    run_numbers = {(run.classifier, run.scoring, run.control): i for i, run in enumerate(runs)}
    numbered = ((run_numbers.get((row["classifier"], row["scoring"], row["control"])), row) for row in reliability)
    columns = ("variant", "bin", "count", "confidence", "accuracy")
    return [[run, *(row[column] for column in columns)] for run, row in numbered if run is not None]


def _fill_template(**values: Any) -> str:
    """Return the page. Every value is escaped, except the page's own scripts and styles."""
    import jinja2

    static = files(__package__) / "static"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    script = "\n".join((static / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    return environment.get_template("page.html").render(
        **values | {"core": Markup(values["core"])},
        style=Markup((static / "page.css").read_text("utf-8")),
        script=Markup(script),
        data_placeholder=Markup(DATA_PLACEHOLDER),
        meta_name=META_NAME,
        kinds=KINDS,
        default_scorings=DEFAULT_SCORINGS,
        examples_knn=EXAMPLES_KNN,
        version=__version__,
        written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
