"""The budget of a running study: its ledger, and the cost bounds of its remaining paid steps.

Belongs here: the amounts that the ledger keeps for classifiers with priority. Does not belong here: reserving and
settling (`storage.ledger`), and the cost of a request (`classifiers.language_models.endpoint`).
"""

from collections import Counter
from dataclasses import dataclass

from vlm_audio_pipeline.contracts.stages import Cost
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Step
from vlm_audio_pipeline.planning.planner import Plan
from vlm_audio_pipeline.planning.staleness import read_node_provenance, unfinished_reasons
from vlm_audio_pipeline.storage.ledger import Ledger


@dataclass(frozen=True)
class StepCost:
    """Upper bounds for the requests of one step to a language model; `paid`: whether its endpoint may charge."""

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
    name = study.name if study.limit is None else study.name.removesuffix(f"_limit{study.limit}")
    ledger = Ledger(graph.result_store, name, study.budget)
    for step in graph.steps.values():
        if not step.stage.paid or step.component not in study.budget.first:
            continue
        can_run = graph.unavailable(step.name) is None  # a step that cannot run must not hold money back
        for fold, cost in remaining_costs(graph, step).items():
            usd_per_request = cost.usd / cost.requests if cost.requests else 0.0
            ledger.expect(step.component, cost.requests if can_run else 0, usd_per_request, f"fold {fold}")
    return ledger


def remaining_costs(graph: Graph, step: Step) -> dict[int | None, Cost]:
    """Return an upper bound of what each fold of a step can still cost; nothing for finished folds."""
    sample, limit = graph.study.classifiers[step.component].sample, graph.study.limit
    clips = Counter(clip.fold for clip in graph.dataset().clips)
    costs: dict[int | None, Cost] = {}
    for node in step.nodes:
        provenance = read_node_provenance(graph, node)
        is_current = provenance is not None and provenance.version == step.version
        if (is_current and not unfinished_reasons(provenance)) or node.fold is None:
            costs[node.fold] = Cost()
            continue
        bounds = (clips[node.fold], limit, sample.share(step.folds or (), node.fold) if sample else None)
        costs[node.fold] = step.stage.cost(min(n for n in bounds if n is not None))
    return costs


def planned_costs(graph: Graph, plan: Plan) -> list[StepCost]:
    """Return upper bounds for the requests of each step of a plan; steps that send no request are not included.

    Steps that cannot run now (a key is missing) are included: their cost helps to decide whether to get the key.
    """
    costs = []
    nodes = {*plan.todo, *plan.not_run}
    for step in graph.steps.values():
        if not step.stage.asks_model:
            continue
        folds = {node.fold for node in nodes if node.step == step.name}
        planned = [cost for fold, cost in remaining_costs(graph, step).items() if fold in folds]
        if requests := sum(cost.requests for cost in planned):
            total = Cost(requests, sum(cost.tokens for cost in planned), sum(cost.usd for cost in planned))
            costs.append(StepCost(step.component, total, step.stage.paid))
    return costs


def asks_models(graph: Graph, plan: Plan) -> bool:
    """Return whether a plan has a step that asks a language model."""
    return any(graph.steps[node.step].stage.asks_model for node in (*plan.todo, *plan.not_run))
