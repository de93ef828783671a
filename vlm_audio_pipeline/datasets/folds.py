"""Assign folds to datasets without folds: grouped by source recording, stratified by class, seeded and stored.

Belongs here: assigning, checking and storing folds. Does not belong here: reading listings. The greedy rule is that of
scikit-learn's `StratifiedGroupKFold`
(https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedGroupKFold.html), made incremental:
a source keeps its fold, so that a new clip makes one fold stale and not all of them.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.atomic import atomic_path
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock

_MAX_NAMES = 10

FoldInput = tuple[str, str, str]
"""The values that the fold of a clip depends on: (clip id, label, source). The label "" means that a clip has no label."""


def assign_folds(
    clips: Sequence[FoldInput], n_folds: int, seed: int = 0, stored: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Assign each source a fold, so that every class is spread over the folds as evenly as its sources allow.

    Stored sources keep their fold. The others follow, those with most clips first. Each goes to the fold that minimises
    the mean, over classes, of the standard deviation over folds of the class's share in the fold. Ties go to the fold with
    fewest clips, then by a hash of seed, source and fold. The order of `clips` is irrelevant.

    Args:
        clips: (clip id, label, source) of every clip.
        n_folds: number of folds, 2 or more.
        seed: breaks ties.
        stored: source -> fold that was assigned earlier; sources without clips are ignored.

    Returns:
        Source -> fold (1 to `n_folds`) for every source of `clips`.

    Raises:
        BadDataset: for fewer than 2 folds, fewer sources than folds, or a class whose clips all fall into one fold.
    """
    if n_folds < 2:
        raise BadDataset(
            f"n_folds must be at least 2, got {n_folds}; without a second fold there are no training clips"
        )
    classes = {label: index for index, label in enumerate(sorted({label for _, label, _ in clips}))}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for _, label, source in clips:
        counts[source][classes[label]] += 1
    if len(counts) < n_folds:
        raise BadDataset(
            f"n_folds must be at most the number of source recordings, got {n_folds} folds for {len(counts)} sources; "
            "lower `n_folds`, or check that `source` distinguishes the recordings"
        )
    totals = sum(counts.values())
    shares = {source: row / totals for source, row in counts.items()}
    fold_shares = np.zeros((n_folds, len(classes)))  # (folds, classes): share of the class's clips in the fold
    sizes = np.zeros(n_folds)  # (folds,): number of clips
    folds = {s: f for s, f in (stored or {}).items() if s in counts and 1 <= f <= n_folds}
    for source, fold in sorted(folds.items()):
        fold_shares[fold - 1] += shares[source]
        sizes[fold - 1] += counts[source].sum()
    new_sources = sorted(counts.keys() - folds.keys(), key=lambda s: (-counts[s].sum(), fingerprint(seed, s), s))
    for source in new_sources:
        # (candidates, folds, classes): the shares if the source goes to that candidate
        after = fold_shares + np.eye(n_folds)[:, :, None] * shares[source]
        spread = after.std(axis=1).mean(axis=1).round(12)
        best = min(range(n_folds), key=lambda f: (spread[f], sizes[f], fingerprint(seed, source, f)))
        fold_shares[best] += shares[source]
        sizes[best] += counts[source].sum()
        folds[source] = best + 1
    check_folds(((c, label, source, folds[source]) for c, label, source in clips), f"`n_folds: {n_folds}`")
    return folds


def check_folds(clips: Iterable[tuple[str, str, str, int]], origin: str) -> None:
    """Refuse folds that make a valid evaluation impossible.

    Args:
        clips: (clip id, label, source, fold) of every clip.
        origin: the file or parameter that contains the folds, for messages.

    Raises:
        BadDataset: for a single fold, a source in two folds (its clips would be in training and test), or a class with
            all clips in one fold (it would be missing in training when that fold is tested). A fold without clips of a
            class is allowed.
    """
    folds_of_source: dict[str, set[int]] = defaultdict(set)
    sources_of_class: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for _, label, source, fold in clips:
        folds_of_source[source].add(fold)
        if label:
            sources_of_class[label][fold].add(source)
    folds = set().union(*folds_of_source.values())
    if len(folds) < 2:
        raise BadDataset(f"{origin}: folds must be at least two, got only {sorted(folds)}; number them 1, 2, ...")
    for source, source_folds in sorted(folds_of_source.items()):
        if len(source_folds) > 1:
            raise BadDataset(
                f"{origin}: the clips of one source must share a fold, got source '{source}' in folds {sorted(source_folds)}; "
                "give them one fold, or correct `source`"
            )
    for label, per_fold in sorted(sources_of_class.items()):
        if len(per_fold) == 1:
            ((fold, sources),) = per_fold.items()
            raise BadDataset(
                f"{origin}: class '{label}' occurs only in fold {fold} ({len(sources)} source{'s' * (len(sources) > 1)}), "
                "so it is missing in training when that fold is tested; add recordings of other sources, or leave the class out"
            )


def check_fold_clips(folds: Mapping[str, int], recordings: Iterable[str], origin: str) -> None:
    """Refuse a fold whose recordings have no clip.

    Args:
        folds: recording -> fold, of every recording.
        recordings: those that have clips.
        origin: the dataset, for messages.

    Raises:
        BadDataset: with the recordings of the fold.
    """
    empty = set(folds.values()) - {folds[recording] for recording in recordings}
    for fold in sorted(empty):
        names = sorted(recording for recording, other in folds.items() if other == fold)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        raise BadDataset(
            f"{origin}: fold {fold} has no clip, because no segment of its recordings is left: {', '.join(names[:_MAX_NAMES])}{more}; "
            "raise `keep_empty` of `segment`, lower `n_folds`, or name other folds in `fold_file`"
        )


def fold_file_name(name: str, path: Path, source: str | None, n_folds: int, seed: int) -> str:
    """Return the name under which the folds of a dataset are stored: a hash of its path and fold parameters.

    Other fields of a study (classes, columns to keep, bad clips) are not part of it, so changing them moves no clip. A
    dataset that is moved to another path gets new folds.

    Args:
        name: kind and name of the dataset, so that users recognise the file.
        path: the dataset's folder or file.
        source: rule that finds the source recording of a clip.
        n_folds: number of folds.
        seed: breaks ties.
    """
    return f"{name}_{fingerprint(name, str(path.resolve()), source, n_folds, seed, length=8)}"


def persistent_folds(
    data_folder: DataFolder, file_name: str, clips: Sequence[FoldInput], n_folds: int, seed: int, *, save: bool
) -> dict[str, int]:
    """Assign folds; sources with a stored fold keep it. Safe if several processes do this at once.

    Args:
        data_folder: contains the stored folds, `datasets/folds/<file_name>.csv`.
        file_name: see `fold_file_name`.
        clips: (clip id, label, source) of every clip.
        n_folds: number of folds.
        seed: breaks ties.
        save: store the folds of new sources.

    Returns:
        Source -> fold.

    Raises:
        BadDataset: see `assign_folds`; nothing is stored then.
    """
    path = data_folder.datasets / "folds" / f"{file_name}.csv"
    if not save:
        return assign_folds(clips, n_folds, seed, read_folds(path))
    with file_lock(data_folder.lock(f"folds.{file_name}")):
        stored = read_folds(path)
        folds = assign_folds(clips, n_folds, seed, stored)
        if not folds.items() <= stored.items():
            write_folds(path, {**stored, **folds})  # sources that are not listed now may return
    return folds


def read_folds(path: Path) -> dict[str, int]:
    """Read the stored fold of each source; empty if the file does not exist.

    Raises:
        BadDataset: for a damaged file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["source"]: int(row["fold"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadDataset(
            f"{path} cannot be read ({error!r}): it must have the columns source and fold, with whole numbers as folds; "
            "restore it, or delete it to assign new folds"
        ) from error


def write_folds(path: Path, folds: Mapping[str, int]) -> None:
    """Store the fold of each source."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "fold"])
        writer.writerows(sorted(folds.items()))
