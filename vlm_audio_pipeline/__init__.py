"""Evaluate vision-language models on spectrograms of sounds.

A study file lists a dataset, models, renderings and baselines; the pipeline evaluates all of them on the same clips and
folds and recomputes only what changed. ARCHITECTURE.md describes the folders of this package.

`import vlm_audio_pipeline as vap` offers the names of `__all__` (docs/python.md). Each is imported at its first use, so that
the import itself takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm_audio_pipeline.api.asking import ModelResponse as ModelResponse
    from vlm_audio_pipeline.api.asking import ask as ask
    from vlm_audio_pipeline.api.classifying import classify as classify
    from vlm_audio_pipeline.api.embedding import embed as embed
    from vlm_audio_pipeline.api.project import doctor as doctor
    from vlm_audio_pipeline.api.project import init as init
    from vlm_audio_pipeline.api.project import leaderboard as leaderboard
    from vlm_audio_pipeline.api.project import list_studies as list_studies
    from vlm_audio_pipeline.api.project import open_report as open_report
    from vlm_audio_pipeline.api.project import prune as prune
    from vlm_audio_pipeline.api.project import schema as schema
    from vlm_audio_pipeline.api.project import show as show
    from vlm_audio_pipeline.api.project import sql as sql
    from vlm_audio_pipeline.api.project import ui as ui
    from vlm_audio_pipeline.api.rendering import example_sound as example_sound
    from vlm_audio_pipeline.api.rendering import list_renderings as list_renderings
    from vlm_audio_pipeline.api.rendering import preset_gallery as preset_gallery
    from vlm_audio_pipeline.api.rendering import render as render
    from vlm_audio_pipeline.api.running import StepsFailed as StepsFailed
    from vlm_audio_pipeline.api.study import OpenStudy as OpenStudy
    from vlm_audio_pipeline.api.study import study as study
    from vlm_audio_pipeline.api.study_plan import StudyPlan as StudyPlan
    from vlm_audio_pipeline.api.tables import ResultTable as ResultTable
    from vlm_audio_pipeline.contracts.errors import VlmAudioError as VlmAudioError
    from vlm_audio_pipeline.renderings.image import RenderedImage as RenderedImage

__version__ = "0.1.0"

_MODULES = {
    "api.asking": ("ModelResponse", "ask"),
    "api.classifying": ("classify",),
    "api.embedding": ("embed",),
    "api.project": (
        "doctor",
        "init",
        "leaderboard",
        "list_studies",
        "open_report",
        "prune",
        "schema",
        "show",
        "sql",
        "ui",
    ),
    "api.rendering": ("example_sound", "list_renderings", "preset_gallery", "render"),
    "api.running": ("StepsFailed",),
    "api.study": ("OpenStudy", "study"),
    "api.study_plan": ("StudyPlan",),
    "api.tables": ("ResultTable",),
    "contracts.errors": ("VlmAudioError",),
    "renderings.image": ("RenderedImage",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
"""Public name -> module that defines it. No name may be that of a folder of the package."""

__all__ = [
    "__version__",
    *sorted(_MODULE_OF),
]


if not TYPE_CHECKING:  # with it, type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
