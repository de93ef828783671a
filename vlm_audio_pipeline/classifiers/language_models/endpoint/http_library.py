"""The HTTP library of an SDK: openai 2 uses httpx, openai 3 and anthropic use httpx2, with the same names."""

from importlib import import_module
from types import ModuleType
from typing import Any


def http_library(sdk: ModuleType) -> Any:
    """Return the HTTP library of `openai` or `anthropic`."""
    bases = (base.__module__.split(".")[0] for base in sdk.DefaultHttpxClient.__mro__)
    return import_module(next(name for name in bases if name.startswith("httpx")))
