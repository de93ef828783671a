"""Examples: which labelled clips a few-shot model is shown.

What belongs here: choosing clips of other folds. What does not: how they are put into a prompt (`prompts`), and what a k-NN
makes of the very same ones (`matched`).

Every strategy ranks the clips of a class that may be shown; draw d of s shots takes ranks d*s to d*s+s-1, so draws share no
clip (but for `random`, whose draws are independent, and `diverse`). A clip may be shown where its fold is another one and its
recording has no clip in the fold asked about: so no example is ever of a query's source. Of several clips of one
recording the later ones rank behind all other recordings: near-duplicates teach nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.knn import distances
from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint

Select = Literal["random", "medoid", "diverse", "nearest"]
"""How examples are chosen.

random: by a hash of (seed, draw, id), so that adding or removing other clips moves none.
medoid: the clip with the smallest summed distance to its class's others, then the nearest to it.
diverse: farthest first: each next clip is the one farthest from those taken (T. F. Gonzalez, Theor. Comput. Sci. 38,
    1985, https://doi.org/10.1016/0304-3975(85)90224-5), the first being the d-th in the ranking of `medoid`.
nearest: nearest to the query, so that every query has examples of its own.
"""

NEEDS_VECTORS = frozenset({"medoid", "diverse", "nearest"})
"""Strategies that stand on an encoder."""


@dataclass(frozen=True)
class Selection:
    """What a study says of its examples.

    Attributes:
        shots: examples a class.
        select: the strategy.
        seed: of `random` and of permuted labels.
        clips: ids to show instead of choosing, in that order; those that may not be shown in a fold are passed over.
        permuted_labels: show every class under another one's name (a control): one and the same derangement for all
            examples of a draw. A model that reads its examples follows it; one that does not is as right as before.
    """

    shots: int = 1
    select: Select = "random"
    seed: int = 0
    clips: tuple[str, ...] = ()
    permuted_labels: bool = False

    @property
    def how(self) -> str:
        """The strategy, or "listed"."""
        return "listed" if self.clips else self.select


def examples(
    clips: pa.Table,
    fold: int,
    classes: Sequence[str],
    selection: Selection,
    *,
    content: Mapping[str, str],
    draw: int = 0,
    order: Sequence[str] | None = None,
    vectors: np.ndarray | None = None,
    queries: Sequence[str] = (),
) -> pa.Table:
    """Choose the examples for the clips of a fold.

    Positions go round: one example of every class in `order`, then the second of every class, and so on, so that no
    class fills the end of the prompt.

    Args:
        clips: `clips` rows of all folds.
        fold: the fold asked about.
        classes: the labels of the study.
        selection: what the study says.
        content: clip -> SHA-256 of what is shown: `spectrograms.picture_sha256` or `clips.samples_sha256`.
        draw: which draw, from 0.
        order: classes in the order in which their examples come; by default that of `classes`.
        vectors: (clips, dimensions) float, rows in the order of `clips`; for strategies that stand on an encoder.
        queries: ids of the clips asked about, of this fold; needed for `nearest`.

    Returns:
        rows of `examples` without `trial`; `query` is empty where they serve the whole fold.

    Raises:
        VlmAudioError: when a class has too few clips that may be shown, or what the strategy needs is not given.
    """
    _check(selection, vectors)
    ranker = _Ranker(clips, fold, selection, draw, vectors, queries)
    first = 0 if selection.how in ("random", "diverse") else draw * selection.shots
    permuted = derangement(classes, selection.seed, draw) if selection.permuted_labels else {}
    rows: list[dict[str, Any]] = []
    per_query = selection.how == "nearest"
    ids, labels, sources = (clips[c].to_pylist() for c in ("clip", "label", "source"))
    for query in queries if per_query else ("",):
        taken = {}
        for label in classes:
            ranked = ranker.ranked(label, query)
            taken[label] = ranked[first : first + selection.shots]
            if len(taken[label]) < selection.shots:
                raise VlmAudioError(
                    f"class '{label}' must have {first + selection.shots} clips that may be shown in fold {fold} (other "
                    f"folds, recordings of its own) for draw {draw} of {selection.shots} shots by {selection.how}, got "
                    f"{len(ranked)}; " + ("list more clips" if selection.clips else "ask for fewer shots or draws")
                )
        chosen = [taken[label][shot] for shot in range(selection.shots) for label in order or classes]
        for position, i in enumerate(chosen):
            rows.append(
                {
                    "query": query,
                    "position": position,
                    "clip": ids[i],
                    "label": labels[i],
                    "source": sources[i],
                    "shown_label": permuted.get(labels[i], labels[i]),
                    "content_sha256": _content(content, ids[i]),
                }
            )
    return pa.Table.from_pylist(rows, _SCHEMA)


_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("position", pa.int64()),
        *((name, pa.string()) for name in ("clip", "label", "source", "shown_label", "content_sha256")),
    ]
)


def _check(selection: Selection, vectors: np.ndarray | None) -> None:
    if selection.how in NEEDS_VECTORS and vectors is None:
        raise VlmAudioError(f"examples by {selection.how} must stand on vectors, got none; name an `encoder`")


def _content(content: Mapping[str, str], clip: str) -> str:
    if clip not in content:
        raise VlmAudioError(
            f"example '{clip}' must have a picture or samples to show, got none; run the rendering again"
        )
    return content[clip]


class _Ranker:
    """Ranks the clips of a class that may be shown in a fold."""

    def __init__(
        self,
        clips: pa.Table,
        fold: int,
        selection: Selection,
        draw: int,
        vectors: np.ndarray | None,
        queries: Sequence[str],
    ) -> None:
        self.selection, self.draw = selection, draw
        self.ids = clips["clip"].to_pylist()
        self.sources = clips["source"].to_pylist()
        here = clips["fold"].to_numpy() == fold
        asked = {source for source, is_here in zip(self.sources, here, strict=True) if is_here}
        may = [i for i in np.flatnonzero(~here).tolist() if self.sources[i] not in asked]
        labels = clips["label"].to_pylist()
        self.by_label: dict[str, list[int]] = {}
        for i in sorted(may, key=lambda i: self.ids[i]):
            self.by_label.setdefault(labels[i], []).append(i)
        self.position = {clip: i for i, clip in enumerate(self.ids)}
        if unknown := [clip for clip in selection.clips if clip not in self.position]:
            raise VlmAudioError(f"listed examples must be clips of the dataset, got {unknown[:5]}; check their ids")
        if selection.how in NEEDS_VECTORS and vectors is not None:
            known = vectors[~here].astype(np.float64)
            if not len(known):
                raise VlmAudioError(f"examples must come from other folds than {fold}, got no clip in any; add folds")
            mean, scale = standardisation(known)
            self.z = (vectors.astype(np.float64) - mean) / scale
        if selection.how == "nearest":
            far = distances(self.z[[self.position[query] for query in queries]], self.z, "cosine")
            self.far = dict(zip(queries, far, strict=True))

    def ranked(self, label: str, query: str) -> list[int]:
        """Give rows of clips, best first."""
        mine = self.by_label.get(label, [])
        match self.selection.how:
            case "listed":
                named = [self.position[clip] for clip in dict.fromkeys(self.selection.clips)]
                return [i for i in named if i in mine]
            case "random":
                key = {i: fingerprint(self.selection.seed, self.draw, self.ids[i], length=64) for i in mine}
                return self._apart(sorted(mine, key=key.__getitem__))
            case "nearest":
                return self._by(mine, self.far[query][mine])
            case "medoid":
                return self._around_the_medoid(mine)
            case _:  # diverse
                return self._farthest_first(mine)

    def _around_the_medoid(self, mine: list[int]) -> list[int]:
        if not mine:
            return []
        far = distances(self.z[mine], self.z[mine], "cosine")
        return self._by(mine, far[np.round(far.sum(axis=1), 9).argmin()])

    def _farthest_first(self, mine: list[int]) -> list[int]:
        start = self._around_the_medoid(mine)[self.draw : self.draw + 1]
        if not start:
            return []
        taken, left = start, self._apart([*start, *(i for i in mine if i != start[0])])[1:]
        while left and len(taken) < self.selection.shots:
            others = [i for i in left if self.sources[i] not in {self.sources[j] for j in taken}] or left
            nearest = distances(self.z[others], self.z[taken], "cosine").min(axis=1)
            taken = [*taken, others[int(nearest.argmax())]]
            left = [i for i in left if i != taken[-1]]
        return taken

    def _by(self, mine: list[int], far: np.ndarray) -> list[int]:
        """Rank by distance, equal ones by id; the medoid itself is at distance 0."""
        return self._apart([mine[i] for i in np.argsort(np.round(far, 12), kind="stable")])

    def _apart(self, ranked: list[int]) -> list[int]:
        """Put the second clip of a recording behind the first of every other, and so on."""
        turn: dict[str, int] = {}
        turns = {}
        for i in ranked:
            turns[i] = turn[self.sources[i]] = turn.get(self.sources[i], 0) + 1
        return sorted(ranked, key=turns.__getitem__)


def derangement(classes: Sequence[str], seed: int, draw: int) -> dict[str, str]:
    """Give every class another one's name: a single cycle through all of them, in an order hashed from seed and draw.

    Args:
        classes: two or more labels.
        seed: another seed gives another cycle.
        draw: so does another draw.

    Returns:
        label -> shown label, one to one, none to itself.

    Raises:
        VlmAudioError: for fewer than two classes.
    """
    if len(classes) < 2:
        raise VlmAudioError(f"permuted_labels must have two or more classes, got {list(classes)}; drop it")
    cycle = sorted(classes, key=lambda label: fingerprint("permuted", seed, draw, label, length=64))
    return dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
