"""Show the cost bound of a plan."""

from rich.console import RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.planning.budget import has_model_requests, open_ledger, planned_costs
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import Plan
from vlm_audio_pipeline.storage.ledger import Ledger


def cost_views(graph: Graph, plan: Plan) -> list[RenderableType]:
    """Return the number of requests of a plan to language models, their cost bound and the budget; [] without requests.

    The dataset is not downloaded for this. If it is missing, the number of clips is unknown, and a hint is returned.
    """
    excess = _budget_excess(graph)
    if not has_model_requests(graph, plan):
        return excess
    if not graph.study.dataset.is_local(graph.data_folder):
        command = f"{graph.study.run_command} --only clips"
        hint = f"requests and prices can be computed after the dataset is downloaded: {command}"
        return [*excess, PlainText(hint, style="dim")]
    costs = planned_costs(graph, plan)
    if not costs:
        return excess
    table = PlainTable()
    for title in ("classifier", "requests at most", "tokens at most", "USD at most", "by batch"):
        is_name = title == "classifier"
        table.add_column(title, no_wrap=not is_name, justify="left" if is_name else "right")
    for step in costs:
        cost = step.cost
        batch = "not offered" if cost.batch_usd is None else f"{cost.batch_usd:.2f}"
        money = [f"{cost.tokens:,}", f"{cost.live_usd:.2f}", batch] if step.paid else ["not counted", "free", ""]
        table.add_row(step.classifier, f"{cost.requests:,}", *money)
    views: list[RenderableType] = [table]
    if batches := [step.classifier for step in costs if step.cost.is_batch]:
        views.append(PlainText(f"sent as batches: {', '.join(batches)}", style="dim"))
    elif any(step.paid and step.cost.batch_usd is not None for step in costs):
        views.append(
            PlainText("`endpoint: {batch: true}` sends requests as batches, answered within a day", style="dim")
        )
    budget = graph.study.budget
    if budget is not None and any(step.paid for step in costs) and (ledger := open_ledger(graph)) is not None:
        spent, left = ledger.spent_usd(), ledger.remaining_usd()
        views.append(
            PlainText(f"budget: {budget.usd:g} USD, {spent:.4f} spent or reserved, {left:.4f} left", style="dim")
        )
    return [*views, *excess]


def _budget_excess(graph: Graph) -> list[RenderableType]:
    """Return a warning if a study has spent more than its budget; [] otherwise."""
    study = graph.study
    paid = [s for s in graph.steps.values() if s.stage.paid]
    if study.budget is None or not paid:
        return []
    ledger = Ledger(graph.result_store, study.ledger_name, study.budget)
    excess, spent = ledger.excess_usd(), ledger.spent_usd()
    ledger.close()
    if not excess:
        return []
    return [
        PlainText(
            f"the budget of {study.budget.usd:g} USD is exceeded by {excess:.4f} USD ({spent:.4f} spent or reserved): an endpoint "
            "reported more tokens than a request can have, or the budget was lowered. Compare with the invoice of the provider. "
            "No paid request is sent until the budget is raised",
            style="yellow",
        )
    ]
