"""The part of a study's graph that depends on its task: how clips are labelled, the summaries, and the report page."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.planning.label_summaries import label_summaries
from vlm_audio_pipeline.planning.summaries import summaries
from vlm_audio_pipeline.reports.page.label_stage import label_report_stage
from vlm_audio_pipeline.reports.page.stage import report_stage
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.study import Study
from vlm_audio_pipeline.tasks.multi_label.stages import add_label_tables
from vlm_audio_pipeline.tasks.registry import DEFAULT_TASK

Summaries = Callable[
    [Study, tuple[int, ...], Callable[[str], str | None], Mapping[str, str]], Iterator[tuple[str, Stage]]
]
"""Function of (study, folds, why a classifier cannot run, versions of the predictions) to (component, stage)."""


@dataclass(frozen=True)
class TaskGraph:
    """The stages of a task, beside those that all tasks share.

    Attributes:
        check_dataset: refuses a dataset whose labels do not fit the task.
        clips: changes the stage of the clips.
        summaries: yields the stages over all folds.
        report: returns the stage of the report page, from the data folder and the names of the steps.
        write_single_file: writes the report page of a study (by name) as one file, and returns its path.
    """

    check_dataset: Callable[[Dataset], None]
    clips: Callable[[Stage], Stage]
    summaries: Summaries
    report: Callable[[DataFolder, Iterable[str]], Stage]
    write_single_file: Callable[[DataFolder, str, Path, Progress], Path]


def check_one_label(dataset: Dataset) -> None:
    """Refuse clips without exactly one class.

    Raises:
        BadDataset: with the numbers of these clips.
    """
    several = [clip for clip in dataset.clips if len(clip.class_names) > 1]
    none = [clip for clip in dataset.clips if not clip.class_names]
    if several or none:
        first = (several + none)[0]
        raise BadDataset(
            f"in the task single_label every clip needs exactly one class, but {len(several)} of {len(dataset.clips)} clips have "
            f"several and {len(none)} have none, such as {first.id} with {list(first.class_names)}; write `task: multi_label`, or "
            "leave these clips out"
        )


def _accept_dataset(dataset: Dataset) -> None:
    """Accept any number of classes for each clip."""


def _same_stage(stage: Stage) -> Stage:
    return stage


def _write_page(data_folder: DataFolder, study: str, out: Path, progress: Progress) -> Path:
    from vlm_audio_pipeline.reports.page.report import write_report

    return write_report(data_folder, study, out, single_file=True, progress=progress)


def _write_label_page(data_folder: DataFolder, study: str, out: Path, progress: Progress) -> Path:
    from vlm_audio_pipeline.reports.page.label_report import write_label_report

    return write_label_report(data_folder, study, out, single_file=True, progress=progress)


TASK_GRAPHS: dict[str, TaskGraph] = {
    DEFAULT_TASK: TaskGraph(check_one_label, _same_stage, summaries, report_stage, _write_page),
    "multi_label": TaskGraph(_accept_dataset, add_label_tables, label_summaries, label_report_stage, _write_label_page),
}
"""The stages of each task, by its name."""
