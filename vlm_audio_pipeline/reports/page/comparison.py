"""Write the page that compares several studies, or a study with its own earlier results.

Belongs here: the content of that page. Does not belong here: the results and their differences (`compared_results`), and cards,
media and files, which the page shares with the report (`report`).
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.evaluation.significance import ALPHA
from vlm_audio_pipeline.reports.page.compared_answers import compare_answers
from vlm_audio_pipeline.reports.page.compared_media import write_compared_media
from vlm_audio_pipeline.reports.page.compared_prompts import ROLE_NAMES, compare_prompts, not_compared_prompts
from vlm_audio_pipeline.reports.page.compared_results import (
    ComparedResults,
    ResultKey,
    common_clip_ids,
    compare_results,
)
from vlm_audio_pipeline.reports.page.compared_settings import different_settings, is_default_known
from vlm_audio_pipeline.reports.page.compared_summary import descriptions, summarise_column
from vlm_audio_pipeline.reports.page.media import balanced_order
from vlm_audio_pipeline.reports.page.page_images import PAGE_IMAGES
from vlm_audio_pipeline.reports.page.report_writer import FolderWriter, ReportWriter, SingleFileWriter, as_script
from vlm_audio_pipeline.reports.page.runs import NO_MAJORITY, OUTCOMES, PageRun, page_runs
from vlm_audio_pipeline.reports.page.templates import fill_template
from vlm_audio_pipeline.reports.page.verdicts import page_caution
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.history_store import HistoryEntry

SCRIPTS = ("base", "layout", "axes", "cards", "transcripts", "comparison", "comparison_start")
MAX_CLIPS = 300
"""Maximum number of clips with images and audio; those with changed predictions come first."""
_MAX_NAME_CHARS = 120


def comparison_folder(data_folder: DataFolder, names: Sequence[str]) -> Path:
    """Return the folder of the page that compares these results; "+" is in no study's name."""
    name = "+".join(names).replace(":", "")
    return data_folder.reports / (name if len(name) <= _MAX_NAME_CHARS else f"comparison+{fingerprint(list(names))}")


def write_comparison(
    data_folder: DataFolder,
    names: Sequence[str],
    out: Path,
    *,
    single_file: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write a page that compares the results of studies. It opens from disk and needs no network.

    Args:
        data_folder: the data folder.
        names: two or more names of studies that were run, or NAME@TIME for earlier results; the others are compared with the first.
        out: the folder or, for `single_file`, the file to write; see `report.write_report`.
        single_file: write one file.
        progress: callback `(done, total, description)`.

    Returns:
        The file to open.

    Raises:
        VlmAudioError: if there are fewer than two names, a name is repeated, or has no results.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise VlmAudioError(
            f"a comparison needs two or more different results, got {', '.join(names) or 'none'}; earlier results of a study are NAME@DATE"
        )
    compared = []
    for i, name in enumerate(names, 1):
        compared.append(ComparedResults.load(data_folder, name))
        progress(i, len(names), "results")
    out = out.absolute()
    report_pages = {} if single_file else _report_pages(data_folder, compared, out)
    with (SingleFileWriter if single_file else FolderWriter)(out) as writer:
        return writer.finish(_write_page(compared, report_pages, writer, progress))


def _report_pages(data_folder: DataFolder, compared: Sequence[ComparedResults], out: Path) -> dict[str, str]:
    """Return the addresses of the studies' own report pages, relative to `out`, of those that were written."""
    pages = {side.results.study: data_folder.reports / side.results.study / "index.html" for side in compared}
    return {study: Path(os.path.relpath(page, out)).as_posix() for study, page in pages.items() if page.is_file()}


def _write_page(
    compared: Sequence[ComparedResults], report_pages: dict[str, str], writer: ReportWriter, progress: Progress
) -> str:
    first = compared[0].results
    result_rows = compare_results(compared)
    classes = list(dict.fromkeys(c for side in compared for c in _class_names(side)))
    keys = [row["key"] for row in result_rows]
    runs = [run for number in range(len(compared)) for run in _runs(compared, number, keys, classes)]
    clip_fields = ("clip", "fold", "source", "duration_s")
    writer.write_data("clips", ([clip[name] for name in clip_fields] for clip in first.clips))
    changed = _changed_clips(runs)
    selected = [*changed, *(clip for clip in balanced_order(first) if clip not in changed)][:MAX_CLIPS]
    media = write_compared_media(compared, runs, selected, writer, progress)
    prompts = compare_prompts(compared)
    clips = range(len(first.clips))
    core = {
        "classes": classes,
        "outcomes": [*OUTCOMES, "no majority"],
        "labels": [classes.index(row["label"]) for row in first.clips],
        "runs": [
            {
                **run.json_values(len(clips)),
                "accuracy": run.row["accuracy"],
                "is_earlier": not compared[run.folds[0]].is_current,
            }
            for run in runs
        ],
        "page_images": PAGE_IMAGES,
        "images": {name: [files.get(i) for i in clips] for name, files in media.images.items()},
        "axes": media.axes,
        "audio": [media.audio.get(i) for i in clips],
        "prompts": [],
    }
    return fill_template(
        "comparison.html",
        SCRIPTS,
        title=f"{' and '.join(side.name for side in compared)} compared",
        compared=compared,
        rows=result_rows,
        runs={(run.folds[0], run.classifier, run.scoring, run.control): i for i, run in enumerate(runs)},
        summary=[summarise_column(result_rows, compared, number) for number in range(1, len(compared))],
        descriptions=descriptions(compared),
        report_pages=report_pages,
        settings=different_settings(compared),
        unknown_defaults=[side.name for side in compared if not is_default_known(side)],
        cautions=dict.fromkeys(filter(None, (page_caution(s.results, s.results.rows("verdicts")) for s in compared))),
        prompts=[prompt for prompt in prompts if prompt.is_comparable],
        not_compared_prompts=not_compared_prompts(prompts, compared),
        role_names=ROLE_NAMES,
        common=[len(common_clip_ids(first, side.results)) for side in compared],
        answers=compare_answers(compared),
        notes=media.notes,
        core=as_script(core),
        kind=writer.format.name,
        alpha=ALPHA,
    )


def _class_names(side: ComparedResults) -> Iterable[str]:
    labels = {p.label for entry in side.entries.values() for p in entry.predictions.values() if p.label[:1] != "("}
    return (*side.results.classes, *sorted(labels - set(side.results.classes)))


def _runs(
    compared: Sequence[ComparedResults], number: int, keys: Sequence[ResultKey], classes: Sequence[str]
) -> Iterable[PageRun]:
    """Yield the results of one of the compared results as runs of the page, in the order of `keys`; `folds` holds its number."""
    side, first = compared[number], compared[0]
    leaderboard = side.results.query("SELECT * FROM leaderboard WHERE study = $1")
    current = {(run.classifier, run.scoring, run.control): run for run in page_runs(side.results, leaderboard)}
    class_number = {name: i for i, name in enumerate(classes)}
    common = common_clip_ids(first.results, side.results)
    for key in keys:
        if (entry := side.entries.get(key)) is None:
            continue
        run = current.get(key)
        votes = _votes(entry, class_number)
        yield PageRun(
            classifier=key[0],
            kind=run.kind if run else "",
            scoring=key[1],
            control=key[2],
            folds=(number,),
            image_set=f"{side.name}/{run.image_set}" if run and run.image_set and side.is_current else None,
            takes_audio=bool(run and run.takes_audio),
            row={"accuracy": sum(p.correct for p in entry.predictions.values()) / len(entry.predictions)},
            votes={first.results.clip_number[clip]: vote for clip, vote in votes.items() if clip in common},
            place=side.name,
        )


def _votes(entry: HistoryEntry, class_number: dict[str, int]) -> dict[str, int]:
    """Return the most frequent label of each clip as a number; below 0: outcomes without a label, and `NO_MAJORITY`."""
    outcomes = {f"({name})": -1 - i for i, name in enumerate(OUTCOMES)}
    counts: dict[str, Counter[int]] = {}
    for (_, clip), prediction in entry.predictions.items():
        number = class_number.get(prediction.label, outcomes.get(prediction.label, NO_MAJORITY))
        counts.setdefault(clip, Counter())[number] += 1
    ranked = {clip: counter.most_common(2) for clip, counter in counts.items()}
    return {c: NO_MAJORITY if len(r) > 1 and r[0][1] == r[1][1] else r[0][0] for c, r in ranked.items()}


def _changed_clips(runs: Sequence[PageRun]) -> list[int]:
    """Return the clips for which two of the compared results of one classifier differ, those with most differences first."""
    by_key: dict[ResultKey, list[PageRun]] = {}
    for run in runs:
        by_key.setdefault((run.classifier, run.scoring, run.control), []).append(run)
    changes: Counter[int] = Counter()
    for same in by_key.values():
        for clip in same[0].votes:
            votes = {run.votes[clip] for run in same if clip in run.votes}
            changes[clip] += len(votes) > 1
    return [clip for clip, n in changes.most_common() if n]
