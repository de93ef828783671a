"""The verdict of a contrast and the sentence that states it."""

from vlm_audio_pipeline.contracts.number_text import percent_text, points_text, rounded_text
from vlm_audio_pipeline.evaluation.comparison import Comparison
from vlm_audio_pipeline.evaluation.significance import ALPHA, p_text
from vlm_audio_pipeline.measures.uncertainty import THESE_EXAMPLES

NOT_COMPARED = "not compared"


def verdict(difference: float, p: float, p_equivalence: float | None) -> str:
    """Return the verdict: equivalent, better, worse, or cannot tell apart.

    A margin declares which differences do not matter. Therefore "equivalent" comes before "better" and "worse": a
    difference that is significant and smaller than the margin is equivalent.

    Args:
        difference: first side minus second side.
        p: p-value of the difference, after Holm.
        p_equivalence: p-value of the equivalence test, after Holm; None without a margin.
    """
    if p_equivalence is not None and p_equivalence < ALPHA:
        return "equivalent"
    if p >= ALPHA:
        return "cannot tell apart"
    return "better" if difference > 0 else "worse"


def statement(
    first: str,
    second: str,
    comparison: Comparison,
    p: float,
    *,
    tests: int,
    margin: float | None = None,
    p_equivalence: float | None = None,
) -> str:
    """Write the result as sentences: accuracies in percent, their difference in points, p after Holm.

    Args:
        first: name of the first side.
        second: name of the other side.
        comparison: the numbers.
        p: p-value of the difference, after Holm.
        tests: number of tests that Holm corrects for.
        margin: margin of the equivalence test, share of 1.
        p_equivalence: p-value of the equivalence test, after Holm.
    """
    points = f"{100 * (margin or 0):g} points"
    result = verdict(comparison.difference, p, p_equivalence)
    finding = {
        "equivalent": f"{first} is equivalent to {second} (less than {points} apart)",
        "better": f"{first} is correct more often than {second}",
        "worse": f"{first} is correct less often than {second}",
        "cannot tell apart": f"{first} and {second} cannot be told apart",
    }[result]
    low, high = comparison.interval.low, comparison.interval.high
    corrected = tests > 1
    sentences = [
        f"{finding}: {percent_text(comparison.accuracy)} against {percent_text(comparison.against_accuracy)} of "
        f"{comparison.clips:,} clips, a difference of {points_text(comparison.difference)} points (95 % interval "
        f"{points_text(low)} to {points_text(high)}{', not corrected' if corrected else ''}; {p_text(p)}"
        f"{f', corrected for {tests} tests' if corrected else ''}"
        f"{'; for these examples' if comparison.interval.scope == THESE_EXAMPLES else ''})."
    ]
    if p_equivalence is not None:
        sentences.append(f"Equivalence within {points}: {p_text(p_equivalence)}.")
    detectable = comparison.detectable_difference(tests)
    if result == "cannot tell apart" and detectable is not None:
        size = rounded_text(100 * detectable, 1)
        sentences.append(
            f"A study of this size finds a true difference of {size} points with a probability of about 80 %."
        )
    return " ".join(sentences)
