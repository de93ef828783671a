"""Names of renderings and encoders under a control, such as `paper__blank`."""

CONTROL_SEPARATOR = "__"
"""Separates a name from its control. Names in a study must not contain it."""


def controlled_name(name: str, control: str) -> str:
    """Return the name of a rendering or encoder under a control, which replaces the query images.

    >>> controlled_name("paper", "blank")
    'paper__blank'
    """
    return f"{name}{CONTROL_SEPARATOR}{control}"
