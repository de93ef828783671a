"""Show what a plan costs."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vlm_audio_pipeline.planning.budget import asks_models, open_ledger, planned_costs
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import Plan


def cost_views(graph: Graph, plan: Plan) -> list[RenderableType]:
    """Show how many requests a plan sends to language models, their cost bound and the budget; nothing for other plans.

    Nothing is downloaded for it: without the dataset the number of clips is unknown.
    """
    if not asks_models(graph, plan):
        return []
    if not graph.study.dataset.is_local(graph.data_folder):
        command = f"vlm-audio run {graph.study.cli_argument} --only clips"
        return [Text(f"requests and prices are known once the dataset is here: {command}", style="dim")]
    costs = planned_costs(graph, plan)
    if not costs:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("classifier", "requests", "tokens at most", "USD at most"):
        table.add_column(title, no_wrap=True, justify="left" if title == "classifier" else "right")
    for step in costs:
        money = [f"{step.cost.tokens:,}", f"{step.cost.usd:.2f}"] if step.paid else ["-", "-"]
        table.add_row(step.classifier, f"{step.cost.requests:,}", *money)
    views: list[RenderableType] = [table]
    budget = graph.study.budget
    if budget is not None and any(step.paid for step in costs) and (ledger := open_ledger(graph)) is not None:
        left = ledger.left()
        spent = budget.usd - left
        views.append(Text(f"budget: {budget.usd:g} USD, {spent:.4f} spent or reserved, {left:.4f} left", style="dim"))
    return views
