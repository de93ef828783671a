"""Folds for datasets that come without them: grouped by source recording, stratified by class, seeded and lasting.

What belongs here: choosing folds, checking them and remembering them. What does not: reading listings. The greedy rule
is that of scikit-learn's `StratifiedGroupKFold`
(https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedGroupKFold.html), made incremental:
a source that has a fold keeps it, so that a new clip makes one fold stale and not all of them.
"""

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.layout import Layout

Listed = tuple[str, str, str]
"""What a fold depends on: (clip id, label, source)."""


def assign_folds(
    clips: Sequence[Listed], n_folds: int, seed: int = 0, remembered: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Give each source a fold, so that every class is spread over the folds as evenly as its sources allow.

    Remembered sources keep their fold. The others follow, those with most clips first, each going to the fold that
    leaves the classes most balanced: the mean over classes of the standard deviation over folds of the class's share in
    the fold. Ties go to the smallest fold, then by a hash of seed, source and fold. The order of `clips` is irrelevant.

    Args:
        clips: (clip id, label, source) of every clip.
        n_folds: number of folds, 2 or more.
        seed: decides ties.
        remembered: source -> fold as chosen before; sources that `clips` lacks are passed over.

    Returns:
        Source -> fold (1 to `n_folds`) for every source of `clips`.

    Raises:
        BadDataset: for fewer than 2 folds, fewer sources than folds, or a class whose clips all fall into one fold.
    """
    if n_folds < 2:
        raise BadDataset(
            f"n_folds must be at least 2, got {n_folds}; without a second fold there is nothing to learn from"
        )
    classes = {label: at for at, label in enumerate(sorted({label for _, label, _ in clips}))}
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes)))
    for _, label, source in clips:
        counts[source][classes[label]] += 1
    if len(counts) < n_folds:
        raise BadDataset(
            f"n_folds must be at most the number of source recordings, got {n_folds} folds for {len(counts)} sources; "
            "lower `n_folds`, or check that `source` tells recordings apart"
        )
    totals = sum(counts.values())
    shares = {source: row / totals for source, row in counts.items()}
    filled = np.zeros((n_folds, len(classes)))  # (folds, classes): share of the class's clips in the fold
    sizes = np.zeros(n_folds)  # (folds,): clips
    folds = {s: f for s, f in (remembered or {}).items() if s in counts and 1 <= f <= n_folds}
    for source, fold in sorted(folds.items()):
        filled[fold - 1] += shares[source]
        sizes[fold - 1] += counts[source].sum()
    new = sorted(counts.keys() - folds.keys(), key=lambda s: (-counts[s].sum(), fingerprint(seed, s), s))
    for source in new:
        # (candidate, folds, classes): the shares if the source went to that candidate
        after = filled + np.eye(n_folds)[:, :, None] * shares[source]
        spread = after.std(axis=1).mean(axis=1).round(12)
        best = min(range(n_folds), key=lambda f: (spread[f], sizes[f], fingerprint(seed, source, f)))
        filled[best] += shares[source]
        sizes[best] += counts[source].sum()
        folds[source] = best + 1
    check_folds(((c, label, source, folds[source]) for c, label, source in clips), f"`n_folds: {n_folds}`")
    return folds


def check_folds(clips: Iterable[tuple[str, str, str, int]], where: str) -> None:
    """Refuse folds from which nothing sound can be computed.

    Args:
        clips: (clip id, label, source, fold) of every clip.
        where: named in messages: a file, or the parameter that made the folds.

    Raises:
        BadDataset: for a single fold, a source in two folds (its clips would be in training and test), or a class whose
            clips all lie in one fold (absent from training when that fold is tested). A class absent from the test
            clips of a fold is allowed.
    """
    of_source: dict[str, set[int]] = defaultdict(set)
    of_class: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for _, label, source, fold in clips:
        of_source[source].add(fold)
        of_class[label][fold].add(source)
    folds = set().union(*of_source.values())
    if len(folds) < 2:
        raise BadDataset(f"{where}: folds must be at least two, got only {sorted(folds)}; number them 1, 2, ...")
    for source, its in sorted(of_source.items()):
        if len(its) > 1:
            raise BadDataset(
                f"{where}: the clips of one source must share a fold, got source '{source}' in folds {sorted(its)}; "
                "give them one fold, or correct `source`"
            )
    for label, per_fold in sorted(of_class.items()):
        if len(per_fold) == 1:
            ((fold, sources),) = per_fold.items()
            raise BadDataset(
                f"{where}: class '{label}' must occur in at least two folds, got it in fold {fold} alone "
                f"({len(sources)} source{'s' * (len(sources) > 1)}), so that it is absent from training when that fold "
                "is tested; add recordings of it from other sources, or leave the class out"
            )


def fold_memory(name: str, path: Path, source: str | None, n_folds: int, seed: int) -> str:
    """Name the memory of a dataset's folds by what they depend on, and by the place: equal names lie in many places.

    What else a study says (classes, what to keep, bad clips) is left out, so that changing it moves no clip. A dataset
    that is moved to another place has its folds chosen anew.

    Args:
        name: kind and name of the dataset, for people who look into the folder.
        path: the dataset's folder or file.
        source: how a clip's source is found.
        n_folds: number of folds.
        seed: decides ties.
    """
    return f"{name}_{fingerprint(name, str(path.resolve()), source, n_folds, seed, length=8)}"


def settled_folds(
    layout: Layout, memory: str, clips: Sequence[Listed], n_folds: int, seed: int, *, remember: bool
) -> dict[str, int]:
    """Assign folds on top of those remembered for a dataset; safe against other processes doing the same.

    Args:
        layout: where they are remembered: `datasets/folds/<memory>.csv`.
        memory: see `fold_memory`.
        clips: (clip id, label, source) of every clip.
        n_folds: number of folds.
        seed: decides ties.
        remember: whether new sources are written down (on opening), or only looked at (when folds are asked for).

    Returns:
        Source -> fold.

    Raises:
        BadDataset: see `assign_folds`; nothing is remembered then.
    """
    path = layout.datasets / "folds" / f"{memory}.csv"
    if not remember:
        return assign_folds(clips, n_folds, seed, remembered_folds(path))
    lock = layout.lock(f"folds.{memory}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        before = remembered_folds(path)
        folds = assign_folds(clips, n_folds, seed, before)
        if not folds.items() <= before.items():
            remember_folds(path, {**before, **folds})  # those no longer listed may return
    return folds


def remembered_folds(path: Path) -> dict[str, int]:
    """Read which fold each source was given; empty where nothing was remembered yet.

    Raises:
        BadDataset: when the file was damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["source"]: int(row["fold"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise BadDataset(
            f"{path} must have the columns source and fold, with whole numbers as folds, got: {error!r}; restore it, "
            "or delete it to have folds chosen anew"
        ) from error


def remember_folds(path: Path, folds: Mapping[str, int]) -> None:
    """Write down which fold each source has, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["source", "fold"])
            writer.writerows(sorted(folds.items()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
