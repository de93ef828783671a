"""The money of a study while it runs: its ledger, and what those that come first may still need.

What belongs here: telling the ledger who still has to ask how much. What does not: reserving and settling (`storage.ledger`)
and what a request can cost (`classifiers.language_models.endpoint`).
"""

from collections import Counter

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vlm_audio_pipeline.contracts.stages import Cost
from vlm_audio_pipeline.planning.graph import Graph, Step
from vlm_audio_pipeline.planning.planner import Plan
from vlm_audio_pipeline.planning.staleness import recorded
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
        needs = graph.unavailable(step.name) is None  # who cannot ask must not hold the others back
        for fold, cost in costs(graph, step).items():
            each = cost.usd / cost.requests if cost.requests else 0.0
            ledger.expect(step.owner, cost.requests if needs else 0, each, f"fold {fold}")
    return ledger


def costs(graph: Graph, step: Step) -> dict[int | None, Cost]:
    """Give what the folds of a step can still cost at most; nothing for those that are finished."""
    sample, most = graph.study.classifiers[step.owner].sample, graph.study.limit
    there_are = Counter(clip.fold for clip in graph.dataset().clips)
    folds = step.folds or ()
    found: dict[int | None, Cost] = {}
    for node in step.nodes:
        there = recorded(graph, node)
        finished = there is not None and there.version == step.version and not there.details.get("unfinished")
        if finished or node.fold is None:
            found[node.fold] = Cost()
            continue
        bounds = (there_are[node.fold], most, sample.share(folds, node.fold) if sample else None)
        found[node.fold] = step.stage.cost(min(n for n in bounds if n is not None))
    return found


def cost_views(graph: Graph, plan: Plan) -> list[RenderableType]:
    """Show what the language models of a plan are asked, at most, and what may still be spent; nothing where there are none.

    What cannot run now (a key is missing) is shown too: its price is a reason to fetch the key, or not to. Nothing is
    downloaded for it: without the dataset there are no clips to count.
    """
    asked = [n for n in (*plan.todo, *plan.blocked) if graph.steps[n.step].stage.asset == "answers"]
    if asked and not graph.study.dataset.is_here(graph.layout):
        get = f"vlm-audio run {graph.study.as_asked} --only clips"
        return [Text(f"requests and prices are known once the dataset is here: {get}", style="dim")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("classifier", "requests", "tokens at most", "USD at most"):
        table.add_column(title, no_wrap=True, justify="left" if title == "classifier" else "right")
    paid = False
    for step in graph.steps.values():
        if step.stage.asset != "answers":
            continue
        wanted = {n.fold for n in (*plan.todo, *plan.blocked) if n.step == step.name}
        some = [cost for fold, cost in costs(graph, step).items() if fold in wanted]
        if requests := sum(c.requests for c in some):
            paid |= step.stage.paid
            money = (
                [f"{sum(c.tokens for c in some):,}", f"{sum(c.usd for c in some):.2f}"]
                if step.stage.paid
                else ["-", "-"]
            )
            table.add_row(step.owner, f"{requests:,}", *money)
    if not table.row_count:
        return []
    views: list[RenderableType] = [table]
    if paid and graph.study.budget is not None and (ledger := ledger_of(graph)) is not None:
        left, usd = ledger.left(), graph.study.budget.usd
        views.append(Text(f"budget: {usd:g} USD, {usd - left:.4f} spent or reserved, {left:.4f} left", style="dim"))
    return views
