"""The formats of `vlm-audio export`, by name."""

from collections.abc import Callable
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.reports.export import export_study
from vlm_audio_pipeline.reports.exports.huggingface import export_huggingface
from vlm_audio_pipeline.reports.exports.inspect_log import export_inspect
from vlm_audio_pipeline.reports.exports.lmms_eval import export_lmms_eval
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder

TABLES_FORMAT = "tables"
"""The default format: CSV, parquet, LaTeX, BibTeX and the provenance."""
FORMATS: dict[str, Callable[[StudyResults, Path], list[Path]]] = {
    "huggingface": export_huggingface,
    "inspect": export_inspect,
    "lmms-eval": export_lmms_eval,
}
"""Format of another tool -> the function that writes it."""


def export_as(data_folder: DataFolder, study: str, format_name: str, out: Path | None = None) -> list[Path]:
    """Write a study in one of the formats and return the written files.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        format_name: "tables", or a name in `FORMATS`.
        out: the folder to write; None for `<study>_export` (tables) or `<study>_<format>` in the working directory.

    Raises:
        VlmAudioError: for an unknown study or format, a folder with other content, or damaged partition files.
    """
    if format_name == TABLES_FORMAT:
        return export_study(data_folder, study, out or Path(f"{study}_export"))
    if format_name not in FORMATS:
        options = (TABLES_FORMAT, *FORMATS)
        raise VlmAudioError(f"--format must be a known format, got '{format_name}'; {suggestion(format_name, options)}")
    results = StudyResults.load(data_folder, study)
    return FORMATS[format_name](results, out or Path(f"{study}_{format_name.replace('-', '_')}"))
