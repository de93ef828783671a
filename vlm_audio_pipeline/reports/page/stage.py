"""The stage that writes the report page of a study from the catalogue, after all results on the page are up to date."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.storage.data_folder import DataFolder

PAGE_VERSION = 13
"""Version of the page's code. Increase it if a code change gives another page for the same results."""

PAGE_ASSETS = (
    "clips",
    "examples",
    "responses",
    "predictions",
    "metrics",
    "leaderboard",
    "contrasts",
    "verdicts",
    "embedding_quality",
    "embedding_comparisons",
    "projections",
    "leakage",
    "published",
    "history",
)
"""Assets whose results are on the page. The page reads images and recordings by the rows of `clips`."""


def report_stage(data_folder: DataFolder, steps: Iterable[str]) -> Stage:
    """Return the stage that writes the page of a study into the data folder.

    Args:
        data_folder: the data folder.
        steps: names of the steps of the study; the stage reads those whose results are on the page.
    """

    def write(context: StageContext) -> Path:
        from vlm_audio_pipeline.reports.page.report import write_report

        return write_report(data_folder, context.study, data_folder.report(context.study), progress=context.progress)

    return page_stage(
        data_folder,
        inputs_of_page(steps, PAGE_ASSETS),
        write,
        version=PAGE_VERSION,
        description="The report page, which works offline: accuracies with intervals, contrasts, and misclassified clips.",
    )


def inputs_of_page(steps: Iterable[str], assets: Collection[str]) -> tuple[Input, ...]:
    """Return the inputs of a page: the steps of a study that make one of the assets. A step without results is left out of the page."""
    names = (step.partition("/") for step in steps)
    return tuple(
        Input(asset, component or None, folds="all", optional=True) for asset, _, component in names if asset in assets
    )


def page_stage(
    data_folder: DataFolder,
    inputs: tuple[Input, ...],
    write: Callable[[StageContext], Path],
    *,
    version: int,
    description: str,
) -> Stage:
    """Return the stage that writes a page of any task.

    Args:
        data_folder: the data folder.
        inputs: the results on the page.
        write: writes the page and returns its file.
        version: version of the page's code.
        description: what the page shows.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        page = write(context)
        size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
        name = page.relative_to(data_folder.root).as_posix()
        return {"report": pa.table({"file": [name], "bytes": pa.array([size], pa.int64())})}

    return Stage(
        asset="report",
        tables=("report",),
        version=version,
        parameters={},
        inputs=inputs,
        run=run,
        description=description,
        per_fold=False,
        on_demand=True,
        reads_catalogue=True,
    )
