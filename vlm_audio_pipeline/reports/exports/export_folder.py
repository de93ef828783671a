"""The folder of an export: it replaces an earlier export of the same format, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.atomic import atomic_path, delete

README = "README.md"
"""A file of every export; its last line names the program and the format, so that another export may replace it."""


@contextmanager
def export_folder(out: Path, format_name: str, readme: str) -> Iterator[Path]:
    """Yield a new folder that replaces `out` when it is complete; after an exception `out` stays as it was.

    Args:
        out: the folder: new, empty, or an earlier export of this format.
        format_name: name of the format.
        readme: text of the export's README.md.

    Raises:
        VlmAudioError: if `out` has other content.
    """
    mark = f"<!-- vlm-audio-pipeline export: {format_name} -->"
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _last_line(out / README) == mark)):
        raise VlmAudioError(
            f"--out must name a new or empty folder, or an earlier {format_name} export, but {out} has other content; "
            "choose another folder"
        )
    with atomic_path(out) as folder:
        folder.mkdir()
        yield folder
        (folder / README).write_text(f"{readme.rstrip()}\n\n{mark}\n", encoding="utf-8")
        delete(out)


def _last_line(file: Path) -> str:
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    return lines[-1] if lines else ""
