"""The documentation of the fields of a pydantic model: the string below each field in the source.

pydantic's own option, `use_attribute_docstrings`, reads the source of every class when the class is made, which was a third of
the time that a command takes to start. Here the source is read when somebody wants the documentation.
"""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


@cache
def field_docs(cls: type[BaseModel]) -> dict[str, str]:
    """Return the documentation of each field of a class that has one.

    A field that a class defines again has the documentation of the new definition.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            own_fields = inspect.get_annotations(base)
            docs = {name: doc for name, doc in docs.items() if name not in own_fields} | _own_docs(base)
    docs |= {name: field.description for name, field in cls.model_fields.items() if field.description}
    return {name: docs[name] for name in cls.model_fields if name in docs}


def _own_docs(cls: type) -> dict[str, str]:
    """Return the strings below the annotated names in the body of a class; none for a class without source."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
    return docs
