"""The page of a study as a step: made from what the catalogue says once everything else is settled.

What belongs here: when the page is out of date. What does not: what is on it (`reports.page`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph

PAGE_VERSION = 3
"""Raised when the same results would give another page."""

SHOWN_ON_PAGE = (
    "clips",
    "examples",
    "predictions",
    "metrics",
    "leaderboard",
    "contrasts",
    "embedding_quality",
    "projections",
    "leakage",
    "published",
    "history",
)
"""Assets whose results are on the page; pictures and recordings come with the clips."""


def report_stage(graph: "Graph", reads: Iterable[str]) -> Stage:
    """Give the stage that writes the page of a study into the data folder.

    Args:
        graph: the study.
        reads: steps whose results are on the page.
    """
    inputs = tuple(
        Input(asset, name or None, folds="all", optional=True)
        for asset, _, name in (step.partition("/") for step in reads)
    )

    def run(context: StageContext) -> dict[str, pa.Table]:
        from vlm_audio_pipeline.planning.publishing import publish
        from vlm_audio_pipeline.reports.page.report import write_report

        publish(graph)  # the page is made from the catalogue, which must know what this run has made
        page = write_report(graph.layout, context.study, graph.layout.report(context.study), progress=context.progress)
        size = sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file())
        place = page.relative_to(graph.layout.root).as_posix()
        return {"report": pa.table({"file": [place], "bytes": pa.array([size], pa.int64())})}

    return Stage(
        asset="report",
        tables=("report",),
        version=PAGE_VERSION,
        parameters={},
        inputs=inputs,
        run=run,
        description="A page that opens from disk: which model hears, how sure that is, and on which clips it fails.",
        per_fold=False,
        on_demand=True,
    )
