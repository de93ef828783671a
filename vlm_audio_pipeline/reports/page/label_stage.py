"""The stage that writes the report page of a multi-label study, after all results on the page are up to date."""

from collections.abc import Iterable

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.storage.data_folder import DataFolder

LABEL_PAGE_VERSION = 1
"""Version of the page's code. Increase it if a code change gives another page for the same results."""
_PAGE_ASSETS = ("clips", "predictions", "metrics", "leaderboard")


def label_report_stage(data_folder: DataFolder, steps: Iterable[str]) -> Stage:
    """Return the stage that writes the page of a multi-label study into the data folder.

    Args:
        data_folder: the data folder.
        steps: names of the steps of the study; the stage reads those whose results are on the page.
    """
    names = (step.partition("/") for step in steps)
    inputs = tuple(
        Input(asset, component or None, folds="all", optional=True)
        for asset, _, component in names
        if asset in _PAGE_ASSETS
    )

    def run(context: StageContext) -> dict[str, pa.Table]:
        from vlm_audio_pipeline.reports.page.label_report import write_label_report

        page = write_label_report(
            data_folder, context.study, data_folder.report(context.study), progress=context.progress
        )
        size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
        name = page.relative_to(data_folder.root).as_posix()
        return {"report": pa.table({"file": [name], "bytes": pa.array([size], pa.int64())})}

    return Stage(
        asset="report",
        tables=("report",),
        version=LABEL_PAGE_VERSION,
        parameters={},
        inputs=inputs,
        run=run,
        description="The report page, which works offline: measures with intervals, classes, and segments with wrong decisions.",
        per_fold=False,
        on_demand=True,
        reads_catalogue=True,
    )
