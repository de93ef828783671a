"""Write the page that compares results, with progress: for the command and for Python."""

from collections.abc import Sequence
from pathlib import Path

from vlm_audio_pipeline.storage.data_folder import DataFolder


def compare_studies(
    data_folder: DataFolder, studies: Sequence[str | Path], limit: int | None = None, single_file: Path | None = None
) -> Path:
    """Write a page that compares the results of other studies with those of the first, and return its path.

    Args:
        data_folder: the data folder.
        studies: names of studies that were run, study files, or NAME@TIME; see `reports.page.comparison`.
        limit: compare the limited runs of the studies with this maximum number of clips per fold; None: the full runs.
        single_file: write the page as one file, at this path; None: into the data folder.
    """
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.planning.opening import find_result_name
    from vlm_audio_pipeline.reports.page.comparison import comparison_folder, write_comparison

    names = [find_result_name(study, data_folder, limit) for study in studies]
    out = single_file or comparison_folder(data_folder, names)
    with progress_bars("report") as display:
        is_single_file = single_file is not None
        return write_comparison(data_folder, names, out, single_file=is_single_file, progress=display.progress)
