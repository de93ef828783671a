"""Names of results as people read them.

The k-NN baseline on the examples of a few-shot model has the name of that model in the tables, and scoring `examples_knn`. It does
not use the model, so for people it has another name: "k-NN on the examples of ...".
"""

EXAMPLES_KNN = "examples_knn"
"""Scoring of the k-NN baseline on the examples of a few-shot model, which is not a result of the model."""


def result_name(classifier: str, scoring: str | None = None, control: str | None = None) -> str:
    """Return the name of a result, without its scoring.

    >>> result_name("janus", "examples_knn"), result_name("janus", "likelihood", "blank")
    ('k-NN on the examples of janus', 'janus @ blank')
    """
    name = f"k-NN on the examples of {classifier}" if scoring == EXAMPLES_KNN else classifier
    return name if control in (None, "", "none") else f"{name} @ {control}"


def result_title(classifier: str, scoring: str | None = None, control: str | None = None) -> str:
    """Return the name of a result with its scoring, unless that is `score`.

    >>> result_title("janus", "likelihood", "blank"), result_title("probe", "score", "blank")
    ('janus @ blank (likelihood)', 'probe @ blank')
    """
    name = result_name(classifier, scoring, control)
    return name if scoring in (None, "", "score", EXAMPLES_KNN) else f"{name} ({scoring})"
