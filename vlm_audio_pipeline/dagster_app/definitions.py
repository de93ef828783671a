"""The Dagster entry point: studies in, Definitions out.

`dagster dev -w workspace.yaml` or `vlm-audio ui` load `defs`. Which studies are shown: those named in
`VLM_AUDIO_STUDIES` (names or paths, separated by commas), else the built-in demo, baselines and esc10, and whatever was run in
the data folder (`VLM_AUDIO_DATA`, else `data/`).
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError
from vlm_audio_pipeline.dagster_app.assets import graph_assets
from vlm_audio_pipeline.dagster_app.sensors import automation
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import manifests
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline.studies.study import refuse_taken_name

SHOWN = ("demo", "baselines", "esc10")


def studies_to_show(layout: Layout) -> list[str]:
    """Give the names or paths of the studies to load."""
    asked = [s.strip() for s in os.environ.get("VLM_AUDIO_STUDIES", "").split(",") if s.strip()]
    if asked:
        return asked
    run_here = {n: Path(m["file"]) for n, m in manifests(layout).items() if m["limit"] is None and m["file"]}
    return [*SHOWN, *(str(path) for name, path in run_here.items() if name not in SHOWN and path.is_file())]


def build_definitions(
    *,
    studies: Sequence[str],
    layout: Layout,
    executor: dg.ExecutorDefinition = dg.in_process_executor,
) -> dg.Definitions:
    """Assemble the definitions of studies.

    A study that cannot be loaded is left out with a warning, so that one bad file does not take the others away.

    Args:
        studies: names of built-in studies, or paths.
        layout: the data folder.
        executor: how steps of a run are executed; in one process by default, so that models stay loaded.
    """
    assets: dict[tuple[str, ...], Any] = {}
    automations = []
    datasets: dict[str, tuple[str, str | Path]] = {}
    names: dict[str, str] = {}
    for study in studies:
        try:
            graph = Graph(load_study(study), layout)
            refuse_taken_name(graph.study, study, names)
            _check_dataset(graph, study, datasets)
            made = graph_assets(graph)
        except VlmAudioError as error:
            logging.getLogger(__name__).warning("study '%s' is not shown: %s", study, error)
            continue
        for asset in made:
            assets.setdefault(tuple(asset.key.path), asset)  # studies of one dataset share its asset
        if (rerun := graph.study.rerun) is not None:
            automations.append(automation(graph, rerun))
    jobs, schedules, sensors = zip(*automations, strict=True) if automations else ((), (), ())
    return dg.Definitions(
        assets=list(assets.values()), jobs=jobs, schedules=schedules, sensors=sensors, executor=executor
    )


def _check_dataset(graph: Graph, study: str, seen: dict[str, tuple[str, str | Path]]) -> None:
    """Refuse a second dataset under the name of another: one asset cannot be both."""
    spec = graph.study.dataset
    place = getattr(spec, "path", None) or ""
    other, there = seen.setdefault(spec.asset_name, (study, place))
    if place != there:
        raise BadStudy(
            f"{study}: dataset.name: must tell this dataset from that of '{other}', got '{spec.asset_name}' for both; "
            "give one of them a `name` of its own"
        )


def _defs() -> dg.Definitions:
    layout = Layout.default()
    return build_definitions(studies=studies_to_show(layout), layout=layout)


defs = _defs()
