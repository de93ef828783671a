"""Compare the provenance of partition files with the graph: which nodes are missing, damaged, stale or fresh."""

from collections.abc import Collection, Mapping

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage import asked_again
from vlm_audio_pipeline.storage.partition_files import Provenance, is_intact, read_provenance


def read_node_provenance(graph: Graph, node: Node) -> Provenance | None:
    """Return the provenance of a node; None if a file is missing or damaged, or if the files differ in provenance."""
    paths = graph.partition_files(node).values()
    provenances = [read_provenance(path) for path in paths]
    first = provenances[0]
    if first is None or any(other != first for other in provenances):
        return None
    return first if all(is_intact(path, graph.result_store) for path in paths) else None


def unfinished_reasons(provenance: Provenance | None) -> list[str]:
    """Return why a node should run again although no input changed; [] if its partition is complete."""
    return list(provenance.details.get("unfinished", ())) if provenance else []


def times_asked_again(graph: Graph, nodes: Collection[Node]) -> dict[Node, int]:
    """Return how often a person has asked for the responses of nodes again; 0 for nodes that ask no model."""
    asking = [node for node in nodes if graph.steps[node.step].stage.asks_model]
    names = {graph.node_name(node): node for node in asking}
    counts = asked_again.times_asked_again(graph.result_store, list(names)) if names else {}
    return dict.fromkeys(nodes, 0) | {names[name]: count for name, count in counts.items()}


def nodes_to_ask_again(graph: Graph) -> set[Node]:
    """Return the nodes with responses that a person has asked for again, and that no run has asked for yet."""
    counts = times_asked_again(graph, graph.nodes)
    provenances = {node: read_node_provenance(graph, node) for node, count in counts.items() if count}
    return {node for node, p in provenances.items() if p is not None and p.details.get("asked_again", 0) < counts[node]}


def current_input_versions(graph: Graph) -> dict[Node, str]:
    """Return the current data version of every input asset that is available (dataset, annotations, weights).

    Digests of files whose size and times did not change come from the result store.
    """
    current: dict[Node, str] = {}
    for asset in graph.input_assets.values():
        try:
            versions = asset.versions(graph.result_store)
        except NotAvailable:
            continue
        current.update({Node(asset.name, fold): version for fold, version in versions.items()})
    return current


def reasons_to_run(
    graph: Graph,
    node: Node,
    provenance: Provenance | None,
    versions: Mapping[Node, str],
    out_of_date: Collection[Node] = (),
    todo: Collection[Node] = (),
) -> tuple[str, ...]:
    """Return why a node has to run: missing or damaged, other code or parameters, or an input that changed.

    Args:
        graph: the study.
        node: the node.
        provenance: the provenance of its partition.
        versions: data versions of all existing nodes and input assets.
        out_of_date: stale nodes that will not run now. As optional inputs they count as removed, so that a summary has
            only results of the current settings.
        todo: nodes that will run now. An optional input that is in `todo` and does not exist yet is not counted as removed.
    """
    if provenance is None:
        exists = any(path.exists() for path in graph.partition_files(node).values())
        return ("damaged" if exists else "missing",)
    reasons = []
    version = graph.steps[node.step].version
    if provenance.version != version:
        old_code, new_code = provenance.version.split(":")[0], version.split(":")[0]
        reasons.append(f"code version {old_code} -> {new_code}" if old_code != new_code else "parameters changed")
    inputs = dict(graph.upstream_nodes(node))
    for upstream, optional in inputs.items():
        name = str(upstream)
        old, new = provenance.inputs.get(name), versions.get(upstream)
        if optional and upstream in out_of_date:
            new = None
        if new is None and (not optional or old is None or upstream in todo):
            continue  # a required input that is missing is computed first; then the versions are compared
        if old != new:
            reasons.append(f"{name} {'was removed' if new is None else 'is new' if old is None else 'changed'}")
    names = {str(upstream) for upstream in inputs}
    reasons += [f"{name} is no longer read" for name in provenance.inputs if name not in names]
    return tuple(reasons)


def fresh_nodes(graph: Graph) -> set[Node]:
    """Return the nodes that are fresh and whose required inputs are fresh, too."""
    provenances = {node: read_node_provenance(graph, node) for node in graph.nodes}
    versions = current_input_versions(graph) | {n: p.data_version for n, p in provenances.items() if p is not None}
    out_of_date: set[Node] = set()
    for node in graph.nodes:
        has_stale_input = any(u in out_of_date for u, optional in graph.upstream_nodes(node) if not optional)
        if has_stale_input or reasons_to_run(graph, node, provenances[node], versions, out_of_date):
            out_of_date.add(node)
    return set(graph.nodes) - out_of_date
