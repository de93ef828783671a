"""Numbers are rounded half away from zero on their decimal value, and percentages have one form."""

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.number_text import percent_text, points_text, rounded_text

PACKAGE = Path(__file__).parents[2] / "vlm_audio_pipeline"


def test_every_share_of_up_to_400_clips_is_rounded_as_its_fraction() -> None:
    """The fraction in exact decimal arithmetic is the expected value; binary floats are often a little smaller or larger."""
    for total in (8, 16, 200, 400):
        for correct in range(total + 1):
            exact = Decimal(correct) / Decimal(total)
            for digits in (1, 2, 3):
                expected = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
                assert rounded_text(correct / total, digits) == str(expected), f"{correct} / {total}"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.9075, 3, "0.908"), (-0.9075, 3, "-0.908"), (1234.5, 0, "1,235"), (-0.0001, 3, "0.000"), (0.0, 1, "0.0")],
)
def test_rounding(value: float, digits: int, text: str) -> None:
    assert rounded_text(value, digits) == text


def test_a_difference_of_two_shares_is_rounded_as_a_decimal_number() -> None:
    """0.9075 - 0.835 = 0.0725, in binary 0.07250000000000001; 0.3 - 0.2775 = 0.0225, in binary 0.022499999999999964."""
    assert points_text(0.9075 - 0.835) == "+7.3"
    assert points_text(0.3 - 0.2775) == "+2.3"
    assert points_text(0.2775 - 0.3) == "-2.3"


def test_percentages_have_a_space() -> None:
    assert percent_text(363 / 400) == "90.8 %"
    assert percent_text(0.98, 0) == "98 %"


def test_a_value_that_is_not_finite_is_shown_as_it_is() -> None:
    assert rounded_text(float("inf"), 3) == "inf"


def test_no_text_formats_an_accuracy_in_another_way() -> None:
    """Python's own format rounds the binary value, and writes a percent sign without a space."""
    other_forms = (":.1%}", "toFixed(3)", ':+.1f}"', "95% ")
    folders = ("cli", "evaluation", "measures", "reports")
    files = [f for folder in folders for f in (PACKAGE / folder).rglob("*") if f.suffix in (".py", ".js", ".html")]
    found = [f"{file}: {form}" for file in files for form in other_forms if form in file.read_text("utf-8")]
    assert found == []
