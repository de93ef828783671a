"""Show the difference that each contrast of a study can show, and what a smaller difference needs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText, print_view
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.power import Assumptions, PlannedContrast
from vlm_audio_pipeline.planning.contrast_power import DeclaredContrast


def show_power(
    contrasts: Sequence[DeclaredContrast],
    out: Console,
    difference: float | None = None,
    assumptions: Assumptions | None = None,
) -> None:
    """Show one row for each contrast; nothing for a study without contrasts.

    Args:
        contrasts: the contrasts with their sizes.
        out: the console.
        difference: a difference of accuracies, share of 1: also show the clips, trials and draws that it needs.
        assumptions: the unknown quantities; by default those of `Assumptions`.
    """
    if not contrasts:
        return
    assumptions = assumptions or Assumptions()
    has_draws = any(c.sizes is not None and c.sizes.random_draws for c in contrasts)
    table = PlainTable(title="what the contrasts can show")
    for name in ("classifier", "against"):
        table.add_column(name)
    names = ["clips", "sources", "trials", "draws", "detects"]
    if has_draws:
        names.append("over draws")
    if difference is not None:
        names += [f"{100 * difference:g} points: clips", "or trials", *(["draws"] if has_draws else [])]
    important = ("clips", "detects", next((name for name in names if "points" in name), ""))
    for name in names:
        table.add_column(name, justify="right", optional=name not in important)
    for contrast in contrasts:
        cells = _cells(contrast.sizes, difference, assumptions, has_draws=has_draws)
        table.add_row(contrast.classifier, contrast.against, *cells)
    print_view(out, table)
    print_view(out, PlainText(_explanation(contrasts, assumptions, has_draws=has_draws), style="dim"))


def power_rows(contrasts: Sequence[DeclaredContrast], difference: float | None = None) -> list[dict[str, Any]]:
    """Return the contrasts with their sizes and the difference that each detects, a share of 1; see `show_power`."""
    assumptions = Assumptions()
    names = ["trials", "draws", "detectable_difference", "detectable_difference_over_draws"]
    if difference is not None:
        names += ["clips_for_difference", "trials_for_difference", "draws_for_difference"]
    rows: list[dict[str, Any]] = []
    for contrast in contrasts:
        row: dict[str, Any] = {"classifier": contrast.classifier, "against": contrast.against, "clips": 0, "sources": 0}
        row |= dict.fromkeys(names)
        if (sizes := contrast.sizes) is not None:
            row |= {"clips": sizes.clips, "sources": len(sizes.source_sizes)}
            row |= {"trials": list(sizes.trials), "draws": list(sizes.random_draws)}
            row["detectable_difference"] = sizes.detectable_difference(assumptions)
            if sizes.random_draws:
                row["detectable_difference_over_draws"] = sizes.detectable_difference(assumptions, new_draws=True)
            if difference is not None:
                row["clips_for_difference"] = sizes.clips_for(difference, assumptions)
                row["trials_for_difference"] = sizes.trials_for(difference, assumptions)
                row["draws_for_difference"] = sizes.draws_for(difference, assumptions) or None
        rows.append(row)
    return rows


def _cells(
    sizes: PlannedContrast | None, difference: float | None, assumptions: Assumptions, *, has_draws: bool
) -> list[str]:
    if sizes is None:
        return ["0", "0", "", "", "no common clips"]
    cells = [
        str(sizes.clips),
        str(len(sizes.source_sizes)),
        " / ".join(map(str, sizes.trials)),
        " / ".join(map(str, sizes.random_draws)) or "none",
        _points(sizes.detectable_difference(assumptions)),
    ]
    if has_draws:
        cells.append(
            _points(sizes.detectable_difference(assumptions, new_draws=True)) if sizes.random_draws else "no draws"
        )
    if difference is not None:
        trials = sizes.trials_for(difference, assumptions)
        cells += [str(sizes.clips_for(difference, assumptions)), "not enough" if trials is None else str(trials)]
        if has_draws:
            draws = sizes.draws_for(difference, assumptions)
            cells.append("not enough" if draws is None else str(draws or "no draws"))
    return cells


def _points(difference: float) -> str:
    return f"{rounded_text(100 * difference, 1)} points"


def _explanation(contrasts: Sequence[DeclaredContrast], assumptions: Assumptions, *, has_draws: bool) -> str:
    tests = next((c.sizes.tests for c in contrasts if c.sizes is not None), len(contrasts))
    values = asdict(assumptions)
    text = (
        f"detects: a true difference of this size is found in about 8 of 10 such studies, after Holm's correction for {tests} "
        f"test{'s' if tests > 1 else ''}. Assumed: accuracy {values['accuracy']:g} (against chance: chance plus the "
        f"difference); correlation of the outcomes of the two sides {values['side_correlation']:g}, of two clips of one source "
        f"recording {values['source_correlation']:g}, of two trials {values['trial_correlation']:g}"
    )
    if has_draws:
        text += (
            f"; standard deviation over draws of examples {values['draw_sd']:g}. over draws: the difference that is found for "
            "the mean over all possible draws of examples, not only over the draws of the study"
        )
    return f"{text}."
