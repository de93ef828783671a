"""The stage that writes the report page of a multi-label study, after all results on the page are up to date."""

from collections.abc import Iterable
from pathlib import Path

from vlm_audio_pipeline.contracts.stages import Stage, StageContext
from vlm_audio_pipeline.reports.page.stage import inputs_of_page, page_stage
from vlm_audio_pipeline.storage.data_folder import DataFolder

LABEL_PAGE_VERSION = 5
"""Version of the page's code. Increase it if a code change gives another page for the same results."""
_PAGE_ASSETS = ("clips", "responses", "predictions", "metrics", "recordings", "leaderboard", "leakage", "contrasts")


def label_report_stage(data_folder: DataFolder, steps: Iterable[str]) -> Stage:
    """Return the stage that writes the page of a multi-label study into the data folder.

    Args:
        data_folder: the data folder.
        steps: names of the steps of the study; the stage reads those whose results are on the page.
    """

    def write(context: StageContext) -> Path:
        from vlm_audio_pipeline.reports.page.label_report import write_label_report

        return write_label_report(
            data_folder, context.study, data_folder.report(context.study), progress=context.progress
        )

    return page_stage(
        data_folder,
        inputs_of_page(steps, _PAGE_ASSETS),
        write,
        version=LABEL_PAGE_VERSION,
        description="The report page, which works offline: measures with intervals, classes, a timeline of annotated events, and segments with wrong decisions.",
    )
