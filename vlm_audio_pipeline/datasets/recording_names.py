"""Find the recordings that annotation files name: by path, by file name, or by file name without suffix."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion


class RecordingNames:
    """The recordings of a folder, found by the names that annotation files use.

    A name is compared with paths from the end: `site/a.wav` and `C:/data/site/a.wav` both find `site/a.wav`, and `a` finds `a.wav`.
    The longest agreement counts; if several recordings agree equally, the name is ambiguous.

    Args:
        files: paths relative to the folder, with "/" between parts.
    """

    def __init__(self, files: Iterable[str]):
        self._files = sorted(files)
        self._by_name: dict[str, list[str]] = {}
        for file in self._files:
            path = PurePosixPath(file)
            for name in dict.fromkeys((path.name, path.stem)):
                self._by_name.setdefault(name, []).append(file)

    def find(self, name: str, aliases: Sequence[str] = ()) -> str | None:
        """Return the recording that a name means; None if there is none.

        Args:
            name: a path, a file name, or a file name without suffix.
            aliases: names to try if there is none.

        Raises:
            BadDataset: if several recordings agree equally with the name.
        """
        for candidate in (name, *aliases):
            if (file := self._find(candidate)) is not None:
                return file
        return None

    def suggest(self, name: str) -> str:
        """Return a hint with similar names."""
        return suggestion(PurePosixPath(name).name, (PurePosixPath(file).name for file in self._files))

    def _find(self, name: str) -> str | None:
        files = self._by_name.get(PurePosixPath(name).name, [])
        if len(files) <= 1:
            return files[0] if files else None
        agreement = {file: _count_common_parts(file, name) for file in files}
        best = [file for file in files if agreement[file] == max(agreement.values())]
        if len(best) > 1:
            options = ", ".join(best[:5]) + (f" and {len(best) - 5} more" if len(best) > 5 else "")
            raise BadDataset(
                f"'{name}' may be any of {options}; write enough folders before the name to tell them apart, or rename them"
            )
        return best[0]


def _count_common_parts(file: str, name: str) -> int:
    """Count the parts that agree, from the end. The file name counts 1 without its suffix, 2 with it."""
    parts, other = PurePosixPath(file).parts[::-1], PurePosixPath(name).parts[::-1]
    count = 1 + (parts[0] == other[0])
    for a, b in zip(parts[1:], other[1:], strict=False):
        if a != b:
            break
        count += 1
    return count


def resolve(names: RecordingNames, name: str, origin: str, aliases: Callable[[str], tuple[str, ...]]) -> str | None:
    """Return the recording that a line of an annotation file means; None if there is none.

    Raises:
        BadDataset: with file and line, if the name is ambiguous.
    """
    try:
        return names.find(name, aliases(name))
    except BadDataset as error:
        raise BadDataset(f"{origin}: {error}") from error
