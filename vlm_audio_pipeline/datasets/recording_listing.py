"""List the recordings of a folder and the annotation files that belong to them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.paths import require_text_path, show_path
from vlm_audio_pipeline.datasets.annotations.events import AnnotationFormat, Annotations, ReadOptions
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats, get_format, recognise_format
from vlm_audio_pipeline.datasets.annotations.tables import clean_name, recording_of_file
from vlm_audio_pipeline.datasets.audio_suffixes import decoded_suffixes
from vlm_audio_pipeline.datasets.base import LeftOut
from vlm_audio_pipeline.datasets.class_folder import list_recordings
from vlm_audio_pipeline.datasets.csv_reader import read_csv
from vlm_audio_pipeline.datasets.recording_names import RecordingNames, resolve

_TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json")


def list_recording_files(folder: Path, *, skips_bad: bool) -> tuple[list[str], list[LeftOut]]:
    """List the recordings in a folder and its subfolders.

    Args:
        folder: the folder.
        skips_bad: list files that cannot be recordings, such as pipes, as left out; false: refuse them.

    Returns:
        Paths relative to the folder, with "/" between parts; and what is left out, with reasons.

    Raises:
        BadDataset: for a folder that is missing or has no recordings, and for recordings with equal names.
    """
    require_text_path(folder)
    if not folder.is_dir():
        raise BadDataset(f"{folder} is not a folder; `path` must be the folder of the recordings")
    content = list_recordings(folder, folder, set())
    if content.unusable and not skips_bad:
        lines = "".join(f"\n  {show_path(path)}: {reason}" for path, reason in content.unusable.items())
        raise BadDataset(f"{len(content.unusable)} files in {folder} cannot be used:{lines}")
    if not content.recordings:
        suffixes = ", ".join(suffix[1:] for suffix in decoded_suffixes())
        raise BadDataset(f"{folder} contains no recordings ({suffixes}); correct `path`")
    left_out = [
        LeftOut(show_path(path.relative_to(folder).as_posix()), "", reason, not path.is_dir())
        for path, reason in {**content.left_out, **content.unusable}.items()
    ]
    files = [path.relative_to(folder).as_posix() for path in content.recordings]
    _refuse_equal_names(files)
    return files, left_out


def _refuse_equal_names(files: Sequence[str]) -> None:
    """Check that recordings differ in more than their suffix, because ids of segments have no suffix."""
    by_name: dict[str, str] = {}
    for file in files:
        name = file.rpartition(".")[0].replace("/", "__")
        other = by_name.setdefault(name, file)
        if other != file:
            raise BadDataset(
                f"recordings must have different names without their suffix, got {other} and {file}. If they are copies in two formats, "
                "remove one of them; otherwise rename one"
            )


def find_annotation_files(paths: Sequence[Path]) -> list[Path]:
    """Return annotation files, and the text files in folders of them.

    Raises:
        BadDataset: for a path that does not exist.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in _TEXT_SUFFIXES and p.is_file())
        elif path.is_file():
            files.append(path)
        else:
            raise BadDataset(f"{path} does not exist; correct `annotations`")
    return list(dict.fromkeys(files))


def read_annotation_files(
    files: Sequence[Path],
    named: Sequence[Path],
    recordings: Iterable[str],
    format_name: str | None,
    options: ReadOptions,
) -> Iterator[tuple[Path, AnnotationFormat, Annotations]]:
    """Yield each annotation file with its format and its content.

    Other text files in a folder are passed over, unless they have the name of a recording. An empty file that has it says that nothing
    occurs, if the format is given.

    Args:
        files: the files.
        named: those that the user names; they must be annotation files.
        recordings: the recordings, relative to their folder.
        format_name: format of all files; None: recognise each.
        options: columns and limits.

    Raises:
        BadDataset: for a file that cannot be used, and if there is no annotation file.
    """
    stems = {PurePosixPath(file).stem for file in recordings}
    count = 0
    for path in files:
        is_expected = path in named or recording_of_file(path) in stems
        annotation_format = recognise_format(path)
        if format_name is not None and (is_expected or annotation_format == get_format(format_name)):
            annotation_format = get_format(format_name)
        if annotation_format is not None:
            count += 1
            yield path, annotation_format, annotation_format.read(path, options)
        elif is_expected:
            raise BadDataset(
                f"the format of {path} is not recognised; name it in `format`: {', '.join(annotation_formats())}. If it is no annotation "
                "file, move it. If it is UTF-16, save it as UTF-8"
            )
    if not count:
        raise BadDataset(
            "no annotation file was recognised; name the files in `annotations` and their format in `format`: "
            f"{', '.join(annotation_formats())}"
        )


def read_fold_file(path: Path, files: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Read the folds of recordings: a CSV with the columns recording and fold, and optionally source.

    Args:
        path: the CSV.
        files: the recordings that need a fold.

    Returns:
        Recording -> fold and source. Without a column `source`, each recording is a source of its own.

    Raises:
        BadDataset: for a missing column, a fold that is no whole number, and a recording that is missing or occurs twice.
    """
    header, rows = read_csv(path)
    for column in ("recording", "fold"):
        if column not in header:
            raise BadDataset(
                f"{path}, line 1: no column '{column}', got {', '.join(header)}; rename a column, or add it"
            )
    names = RecordingNames(files)
    folds: dict[str, tuple[int, str]] = {}
    for row in rows:
        origin, name = f"{path}, line {row.line}", row.cells["recording"]
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", row.cells["fold"]):
            raise BadDataset(
                f"{origin}, column 'fold': a fold must be a whole number of 1 or more, got '{row.cells['fold']}'; correct it"
            )
        if (file := resolve(names, clean_name(name), origin, lambda _: ())) is None:
            continue  # a recording that is not used
        if file in folds:
            raise BadDataset(
                f"{origin}: '{name}' must occur once, but a line above is about the same recording; remove one of them"
            )
        folds[file] = (int(row.cells["fold"]), row.cells.get("source") or file)
    if missing := [file for file in files if file not in folds]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise BadDataset(
            f"{path} must name every recording, but these are missing: {', '.join(missing[:5])}{more}; add them"
        )
    return folds
