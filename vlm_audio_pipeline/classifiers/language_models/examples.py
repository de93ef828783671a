"""Select the labelled clips of other folds that a few-shot model gets as examples.

Every strategy ranks the candidates of a class; draw d of s shots takes ranks d*s to d*s+s-1, so draws share no clip (except
`random`, whose draws are independent, and `diverse`). A clip is a candidate if it is in another fold and its source recording
has no clip in the fold of the queries: no example has the same source as a query. Of several clips of one recording, the later
ones rank behind all other recordings, because near-duplicates add nothing.
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

SelectionStrategy = Literal["random", "medoid", "diverse", "nearest"]
"""Strategies.

random: ranked by a hash of (seed, draw, id), so that an added or removed clip does not change the order of the others.
medoid: the clip with the smallest sum of distances to the other clips of its class, then the clips nearest to it.
diverse: farthest first: each next clip is the farthest from all selected clips (T. F. Gonzalez, Theor. Comput. Sci. 38,
    1985, https://doi.org/10.1016/0304-3975(85)90224-5). Draw d begins with the clip of rank d in `medoid`.
nearest: nearest to the query; every query has its own examples.
"""

STRATEGIES_WITH_VECTORS = frozenset({"medoid", "diverse", "nearest"})
"""Strategies that need the vectors of an encoder."""


@dataclass(frozen=True)
class Selection:
    """Settings of a study for its examples.

    Attributes:
        shots: examples per class.
        select: the strategy.
        seed: seed of `random` and of permuted labels.
        clips: ids of fixed examples, in this order; those that are not candidates in a fold are skipped.
        permuted_labels: give every class the name of another class (a control), with the same permutation for all examples
            of a draw. A model that uses its examples follows the permutation; a model that ignores them keeps its accuracy.
    """

    shots: int = 1
    select: SelectionStrategy = "random"
    seed: int = 0
    clips: tuple[str, ...] = ()
    permuted_labels: bool = False

    @property
    def strategy(self) -> str:
        """The strategy, or "listed" if the study lists the examples."""
        return "listed" if self.clips else self.select


def select_examples(
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
    """Select the examples for the clips of a fold.

    The classes alternate: the first example of every class in `order`, then the second of every class, and so on. So the
    prompt does not end with several examples of one class.

    Args:
        clips: the `clips` table of all folds.
        fold: the fold of the queries.
        classes: the labels of the study.
        selection: settings of the study.
        content: clip id -> SHA-256 of its image or audio: `spectrograms.image_sha256` or `clips.samples_sha256`.
        draw: number of the draw, from 0.
        order: order of the classes among the examples; by default that of `classes`.
        vectors: (clips, dimensions) float, in the order of `clips`; for strategies that need vectors.
        queries: ids of the queries of this fold; for `nearest`.

    Returns:
        The `examples` table without `trial`; `query` is empty for examples of the whole fold.

    Raises:
        VlmAudioError: if a class has too few candidates, or vectors are missing.
    """
    _check(selection, vectors)
    ranker = _Ranker(clips, fold, selection, draw, vectors, queries)
    first = 0 if selection.strategy in ("random", "diverse") else draw * selection.shots
    permuted = permute_labels(classes, selection.seed, draw) if selection.permuted_labels else {}
    rows: list[dict[str, Any]] = []
    per_query = selection.strategy == "nearest"
    ids, labels, sources = (clips[c].to_pylist() for c in ("clip", "label", "source"))
    for query in queries if per_query else ("",):
        by_label = {}
        for label in classes:
            ranked = ranker.rank(label, query)
            by_label[label] = ranked[first : first + selection.shots]
            if len(by_label[label]) < selection.shots:
                raise VlmAudioError(
                    f"class '{label}' needs {first + selection.shots} candidates for fold {fold} (clips of other folds "
                    f"and other recordings) in draw {draw} with {selection.shots} shots by {selection.strategy}, but has "
                    f"{len(ranked)}; " + ("list more clips" if selection.clips else "use fewer shots or draws")
                )
        indices = [by_label[label][shot] for shot in range(selection.shots) for label in order or classes]
        for position, i in enumerate(indices):
            rows.append(
                {
                    "query": query,
                    "position": position,
                    "clip": ids[i],
                    "label": labels[i],
                    "source": sources[i],
                    "example_label": permuted.get(labels[i], labels[i]),
                    "content_sha256": _content(content, ids[i]),
                }
            )
    return pa.Table.from_pylist(rows, _SCHEMA)


_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("position", pa.int64()),
        *((name, pa.string()) for name in ("clip", "label", "source", "example_label", "content_sha256")),
    ]
)


def _check(selection: Selection, vectors: np.ndarray | None) -> None:
    if selection.strategy in STRATEGIES_WITH_VECTORS and vectors is None:
        raise VlmAudioError(f"examples by {selection.strategy} need vectors, got none; name an `encoder`")


def _content(content: Mapping[str, str], clip: str) -> str:
    if clip not in content:
        raise VlmAudioError(f"example '{clip}' has no image or audio; run the rendering again")
    return content[clip]


class _Ranker:
    """Ranks the candidates of a class for one fold."""

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
        in_fold = clips["fold"].to_numpy() == fold
        query_sources = {source for source, is_query in zip(self.sources, in_fold, strict=True) if is_query}
        candidates = [i for i in np.flatnonzero(~in_fold).tolist() if self.sources[i] not in query_sources]
        labels = clips["label"].to_pylist()
        self.by_label: dict[str, list[int]] = {}
        for i in sorted(candidates, key=lambda i: self.ids[i]):
            self.by_label.setdefault(labels[i], []).append(i)
        self.position = {clip: i for i, clip in enumerate(self.ids)}
        if unknown := [clip for clip in selection.clips if clip not in self.position]:
            raise VlmAudioError(f"listed examples must be clips of the dataset, got {unknown[:5]}; check their ids")
        if selection.strategy in STRATEGIES_WITH_VECTORS and vectors is not None:
            training = vectors[~in_fold].astype(np.float64)
            if not len(training):
                raise VlmAudioError(
                    f"examples must come from other folds than {fold}, but no other fold has clips; add folds"
                )
            mean, scale = standardisation(training)
            self.z = (vectors.astype(np.float64) - mean) / scale
        if selection.strategy == "nearest":
            query_distances = distances(self.z[[self.position[query] for query in queries]], self.z, "cosine")
            self.query_distances = dict(zip(queries, query_distances, strict=True))

    def rank(self, label: str, query: str) -> list[int]:
        """Return the indices of the candidates of a class, best first."""
        candidates = self.by_label.get(label, [])
        match self.selection.strategy:
            case "listed":
                indices = [self.position[clip] for clip in dict.fromkeys(self.selection.clips)]
                return [i for i in indices if i in candidates]
            case "random":
                key = {i: fingerprint(self.selection.seed, self.draw, self.ids[i], length=64) for i in candidates}
                return self._alternate_sources(sorted(candidates, key=key.__getitem__))
            case "nearest":
                return self._rank_by_distance(candidates, self.query_distances[query][candidates])
            case "medoid":
                return self._rank_around_medoid(candidates)
            case _:  # diverse
                return self._rank_farthest_first(candidates)

    def _rank_around_medoid(self, candidates: list[int]) -> list[int]:
        if not candidates:
            return []
        distance = distances(self.z[candidates], self.z[candidates], "cosine")
        return self._rank_by_distance(candidates, distance[np.round(distance.sum(axis=1), 9).argmin()])

    def _rank_farthest_first(self, candidates: list[int]) -> list[int]:
        start = self._rank_around_medoid(candidates)[self.draw : self.draw + 1]
        if not start:
            return []
        selected, remaining = start, self._alternate_sources([*start, *(i for i in candidates if i != start[0])])[1:]
        while remaining and len(selected) < self.selection.shots:
            others = [i for i in remaining if self.sources[i] not in {self.sources[j] for j in selected}] or remaining
            nearest = distances(self.z[others], self.z[selected], "cosine").min(axis=1)
            selected = [*selected, others[int(nearest.argmax())]]
            remaining = [i for i in remaining if i != selected[-1]]
        return selected

    def _rank_by_distance(self, candidates: list[int], distance: np.ndarray) -> list[int]:
        """Rank by distance, ties by id; the medoid itself has distance 0."""
        return self._alternate_sources([candidates[i] for i in np.argsort(np.round(distance, 12), kind="stable")])

    def _alternate_sources(self, ranked: list[int]) -> list[int]:
        """Move the second clip of each recording behind the first clips of all recordings, and so on."""
        turn: dict[str, int] = {}
        turns = {}
        for i in ranked:
            turns[i] = turn[self.sources[i]] = turn.get(self.sources[i], 0) + 1
        return sorted(ranked, key=turns.__getitem__)


def permute_labels(classes: Sequence[str], seed: int, draw: int) -> dict[str, str]:
    """Permute the class names in a single cycle, whose order is a hash of seed and draw.

    Args:
        classes: two or more labels.
        seed: random seed.
        draw: number of the draw, from 0.

    Returns:
        label -> label in the prompt: a permutation in which no label keeps its name.

    Raises:
        VlmAudioError: if there are fewer than two classes.
    """
    if len(classes) < 2:
        raise VlmAudioError(f"permuted_labels needs two or more classes, got {list(classes)}; remove it")
    cycle = sorted(classes, key=lambda label: fingerprint("permuted", seed, draw, label, length=64))
    return dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
