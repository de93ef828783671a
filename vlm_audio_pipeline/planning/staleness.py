"""What is there, and whether it is what it should be: footers of parts held against the graph of today."""

from collections.abc import Collection, Mapping

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.storage.partition_files import Provenance, is_whole, read_provenance


def recorded(graph: Graph, node: Node) -> Provenance | None:
    """Give what a node was made from; None unless every one of its parts is there, of one making and undamaged."""
    paths = graph.parts(node).values()
    found = [read_provenance(path) for path in paths]
    first = found[0]
    if first is None or any(p != first for p in found) or not all(is_whole(path, graph.rows) for path in paths):
        return None
    return first


def unfinished(there: Provenance | None) -> list[str]:
    """Say why a part that is there should be tried again, though nothing it was made from changed; [] for a finished one."""
    return list(there.details.get("unfinished", ())) if there else []


def observe(graph: Graph) -> dict[Node, str]:
    """Look at what lies outside (files of the dataset, readings, weights): data version by node.

    Sources that cannot be had are left out. Digests of files that were not touched are remembered.
    """
    seen: dict[Node, str] = {}
    for source in graph.sources.values():
        try:
            versions = source.versions(graph.rows)
        except NotAvailable:
            continue
        seen.update({Node(source.name, fold): version for fold, version in versions.items()})
    return seen


def reasons_to_run(
    graph: Graph,
    node: Node,
    there: Provenance | None,
    versions: Mapping[Node, str],
    out_of_date: Collection[Node] = (),
    coming: Collection[Node] = (),
) -> tuple[str, ...]:
    """Say why a node has to run: missing or damaged, its code or parameters changed, or an input changed, came or went.

    Args:
        graph: the study.
        node: the node.
        there: what it was made from.
        versions: data versions of all that is there.
        out_of_date: nodes whose parts are not what they should be and will not be made anew now; a summary takes them
            for absent, so that no number of other settings stands among those of today's.
        coming: nodes that will be made now: where one of them is missing it is waited for, and is not gone.
    """
    if there is None:
        return ("damaged" if any(path.exists() for path in graph.parts(node).values()) else "missing",)
    reasons = []
    want = graph.steps[node.step].version
    if there.version != want:
        code, want_code = there.version.split(":")[0], want.split(":")[0]
        reasons.append(f"code version {code} -> {want_code}" if code != want_code else "parameters changed")
    inputs = dict(graph.upstream(node))
    for upstream, optional in inputs.items():
        name = str(upstream)
        was, now = there.inputs.get(name), versions.get(upstream)
        if optional and upstream in out_of_date:
            now = None
        if now is None and (not optional or was is None or upstream in coming):
            continue  # a required input that is gone is made first; then the versions are compared
        if was != now:
            reasons.append(f"{name} {'is gone' if now is None else 'is new' if was is None else 'changed'}")
    names = {str(upstream) for upstream in inputs}
    reasons += [f"{name} is no longer read" for name in there.inputs if name not in names]
    return tuple(reasons)


def up_to_date(graph: Graph) -> set[Node]:
    """Give the nodes whose parts are what they should be, and rest on nothing that is not."""
    there = {node: recorded(graph, node) for node in graph.nodes}
    versions = observe(graph) | {node: p.data_version for node, p in there.items() if p is not None}
    out: set[Node] = set()
    for node in graph.nodes:
        rests_on_old = any(u in out for u, optional in graph.upstream(node) if not optional)
        if rests_on_old or reasons_to_run(graph, node, there[node], versions, out):
            out.add(node)
    return set(graph.nodes) - out
