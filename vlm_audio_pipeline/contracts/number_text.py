"""Numbers as people read them: one rule of rounding and one form of percentages for the page, the terminal, sentences and exports.

A number is rounded half away from zero: 0.9075 becomes 0.908. The decimal value counts, not its binary approximation, which is
a little smaller for 0.9075. So the value is first rounded to 12 significant digits, more than any result has. The scripts
of the page repeat the rule (`roundedText` in `base.js`).
"""

from decimal import ROUND_HALF_UP, Decimal

_SIGNIFICANT_DIGITS = 12


def rounded_text(value: float, digits: int, *, sign: bool = False) -> str:
    """Return a number as text, with a fixed number of decimals and with commas between thousands.

    Args:
        value: the number.
        digits: number of decimals.
        sign: write "+" before a number above 0. A number that is rounded to 0 has no sign.

    >>> rounded_text(0.9075, 3), rounded_text(-0.0725, 3), rounded_text(0.015, 1, sign=True)
    ('0.908', '-0.073', '0.0')
    """
    exact = Decimal(f"{float(value):.{_SIGNIFICANT_DIGITS}g}")
    if not exact.is_finite():
        return str(float(value))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded):,f}" if not rounded else f"{rounded:{'+' if sign else ''},f}"


def percent_text(share: float, digits: int = 1) -> str:
    """Return a share of 1 as a percentage.

    >>> percent_text(0.8525), percent_text(0.98)
    ('85.3 %', '98.0 %')
    """
    return f"{rounded_text(100 * share, digits)} %"


def points_text(difference: float, digits: int = 1) -> str:
    """Return a difference of two shares of 1 in percentage points, with its sign, without the unit.

    >>> points_text(0.0325), points_text(-0.08), points_text(0.0)
    ('+3.3', '-8.0', '0.0')
    """
    return rounded_text(100 * difference, digits, sign=True)


def count_text(count: int, noun: str) -> str:
    """Return a count and its noun, which gets an "s" unless the count is 1.

    >>> count_text(1, "step"), count_text(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
