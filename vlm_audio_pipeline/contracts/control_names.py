"""Names of renderings and encoders under a control, such as `paper__blank`."""

CONTROL_SEPARATOR = "__"
"""Between a name and a control; names in a study must not contain it."""


def controlled_name(name: str, control: str) -> str:
    """Return the name of the rendering or encoder whose query images a control replaced.

    >>> controlled_name("paper", "blank")
    'paper__blank'
    """
    return f"{name}{CONTROL_SEPARATOR}{control}"
