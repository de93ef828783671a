"""Which results a user has requested again (`run --again`), and for which nodes.

A request for a new result deletes no payload (only `prune --responses` may): a superseded result stays where it is, and the key
of its successor is a hash of its own key. So a killed run continues without a second request for the same successor, and every
study that shares the result finds the new result in its next run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.result_store import ResultStore

_KIND = "asked_again"


def successor_key(key: str) -> str:
    """Return the result key of the result that supersedes another one."""
    return fingerprint("successor", key, length=64)


def current_keys(store: ResultStore, keys: Sequence[str]) -> dict[str, str]:
    """Map each result key to the key of its latest successor; to itself if it was not requested again."""
    current = dict(zip(keys, keys, strict=True))
    pending = list(current)
    while pending:
        marks = {_mark(current[key]): key for key in pending}
        pending = [marks[mark] for mark in store.get(list(marks))]
        for key in pending:
            current[key] = successor_key(current[key])
    return current


def supersede(store: ResultStore, node_keys: Mapping[str, Iterable[str]]) -> None:
    """Record in one transaction that results are requested again.

    Args:
        store: the result store.
        node_keys: name of each node, with its study -> the keys of its results.
    """
    counts = times_asked_again(store, list(node_keys))
    marks = [(_node_mark(node, counts[node] + 1), json.dumps({"step": node}).encode()) for node in node_keys]
    keys = dict.fromkeys(key for keys in node_keys.values() for key in keys)
    store.put(_KIND, [*marks, *((_mark(key), json.dumps({"superseded": key}).encode()) for key in keys)])


def times_asked_again(store: ResultStore, nodes: Sequence[str]) -> dict[str, int]:
    """Return how often the results of each node were requested again."""
    counts = dict.fromkeys(nodes, 0)
    pending = list(counts)
    while pending:
        marks = {_node_mark(node, counts[node] + 1): node for node in pending}
        pending = [marks[mark] for mark in store.get(list(marks))]
        for node in pending:
            counts[node] += 1
    return counts


def _mark(key: str) -> str:
    return fingerprint("superseded", key, length=64)


def _node_mark(node: str, count: int) -> str:
    return fingerprint("step asked again", node, count, length=64)
