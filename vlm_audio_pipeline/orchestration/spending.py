"""The money of a study while it runs: its ledger, and what those that come first may still need.

What belongs here: telling the ledger who still has to ask how much. What does not: reserving and settling (`storage.ledger`)
and what a request can cost (`classifiers.language_models.endpoint`).
"""

from collections import Counter

from vlm_audio_pipeline.contracts.stages import Cost
from vlm_audio_pipeline.orchestration.graph import Graph, Step
from vlm_audio_pipeline.orchestration.state import recorded
from vlm_audio_pipeline.storage.ledger import Ledger


def ledger_of(graph: Graph) -> Ledger | None:
    """Open the ledger of a study; None where it has no budget. A limited run spends from that of the whole study.

    Classifiers of `budget.first` are said to need what their folds can still cost at most, so that nobody who comes later
    spends it.
    """
    study = graph.study
    if study.budget is None:
        return None
    name = study.name if study.limit is None else study.name.removesuffix(f"_limit{study.limit}")
    ledger = Ledger(graph.rows, name, study.budget)
    for step in graph.steps.values():
        if not step.stage.paid or step.owner not in study.budget.first:
            continue
        for fold, cost in costs(graph, step).items():
            each = cost.usd / cost.requests if cost.requests else 0.0
            ledger.expect(step.owner, cost.requests, each, f"fold {fold}")
    return ledger


def costs(graph: Graph, step: Step) -> dict[int | None, Cost]:
    """Give what the folds of a step can still cost at most; nothing for those that are finished."""
    clips = Counter(clip.fold for clip in graph.dataset().clips)
    found: dict[int | None, Cost] = {}
    for node in step.nodes:
        there = recorded(graph, node)
        finished = there is not None and there.version == step.version and not there.details.get("unfinished")
        found[node.fold] = Cost() if finished or node.fold is None else step.stage.cost(clips[node.fold])
    return found
