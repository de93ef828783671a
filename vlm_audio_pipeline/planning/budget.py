"""The budget of a running study: its ledger, and the cost bounds of its remaining paid steps.

Belongs here: the amounts that the ledger keeps for classifiers with priority. Does not belong here: reserving and
settling (`storage.ledger`), and the cost of a request (`classifiers.language_models.endpoint`).
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from vlm_audio_pipeline.contracts.stages import Cost
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node, Step
from vlm_audio_pipeline.planning.planner import AGAIN, Plan
from vlm_audio_pipeline.planning.staleness import nodes_to_ask_again, read_node_provenance, unfinished_reasons
from vlm_audio_pipeline.storage.batch_log import BatchLog
from vlm_audio_pipeline.storage.ledger import Ledger


@dataclass(frozen=True)
class StepCost:
    """Upper bounds of the cost of the requests that one step sends to a language model; `paid`: whether its endpoint may charge."""

    classifier: str
    cost: Cost
    paid: bool


def open_ledger(graph: Graph) -> Ledger | None:
    """Open the ledger of a study; None without a budget. A limited run spends from the budget of the whole study.

    For each classifier of `budget.first` the ledger keeps the cost bound of its remaining folds, so that other classifiers
    do not spend this money.
    """
    study = graph.study
    if study.budget is None:
        return None
    ledger = Ledger(graph.result_store, study.ledger_name, study.budget)
    if not study.budget.first:
        return ledger
    with BatchLog(graph.result_store) as log:
        reserved = log.reserved_requests(study.ledger_name)
    for step in graph.steps.values():
        if not step.stage.paid or step.component not in study.budget.first:
            continue
        can_run = graph.unavailable(step.name) is None  # no money is kept for a step that cannot run
        for fold, cost in remaining_costs(graph, step).items():
            usd_per_request = cost.usd / cost.requests if cost.requests else 0.0
            scope = f"fold {fold}"
            requests = max(cost.requests - reserved.get((step.component, scope), 0), 0)
            ledger.expect(step.component, requests if can_run else 0, usd_per_request, scope)
    return ledger


def remaining_costs(graph: Graph, step: Step, again: Collection[Node] = ()) -> dict[int | None, Cost]:
    """Return an upper bound of the remaining cost of each fold of a step; 0 for finished folds.

    Args:
        graph: the study.
        step: the step.
        again: nodes that count as not finished, because a person wants to ask again.
    """
    sample, limit = graph.study.classifiers[step.component].sample, graph.study.limit
    clips = Counter(clip.fold for clip in graph.dataset().clips)
    costs: dict[int | None, Cost] = {}
    again = nodes_to_ask_again(graph) | set(again)
    for node in step.nodes:
        provenance = read_node_provenance(graph, node)
        is_current = provenance is not None and provenance.version == step.version
        is_finished = is_current and not unfinished_reasons(provenance) and node not in again
        if is_finished or node.fold is None:
            costs[node.fold] = Cost()
            continue
        clip_counts = (clips[node.fold], limit, sample.clips_in_fold(step.folds or (), node.fold) if sample else None)
        costs[node.fold] = step.stage.cost(min(n for n in clip_counts if n is not None))
    return costs


def planned_costs(graph: Graph, plan: Plan) -> list[StepCost]:
    """Return upper bounds of the cost of the requests of each step of a plan; steps that send no request are not included.

    Steps that cannot run now (a key is missing) are included: their cost helps to decide whether to get the key.
    """
    costs = []
    nodes = {*plan.todo, *plan.not_run}
    again = {node for node, reasons in plan.todo.items() if AGAIN in reasons}
    for step in graph.steps.values():
        if not step.stage.asks_model:
            continue
        folds = {node.fold for node in nodes if node.step == step.name}
        planned = [cost for fold, cost in remaining_costs(graph, step, again).items() if fold in folds]
        if requests := sum(cost.requests for cost in planned):
            batch_usd = [cost.batch_usd for cost in planned if cost.batch_usd is not None]
            total = Cost(
                requests,
                sum(cost.tokens for cost in planned),
                sum(cost.usd for cost in planned),
                live_usd=sum(cost.live_usd for cost in planned),
                batch_usd=sum(batch_usd) if batch_usd else None,
                is_batch=any(cost.is_batch for cost in planned),
            )
            costs.append(StepCost(step.component, total, step.stage.paid))
    return costs


def has_model_requests(graph: Graph, plan: Plan) -> bool:
    """Return whether a plan has a step that asks a language model."""
    return any(graph.steps[node.step].stage.asks_model for node in (*plan.todo, *plan.not_run))
