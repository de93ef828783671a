"""Import librosa without compiling what is not called.

librosa compiles 40 variants of small functions with numba when its core is imported, which takes 20 s of computing in a new
environment and in each process that cannot write numba's cache. Here each function is compiled at its first call instead; the
constant-Q transform calls none of them.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

_lock = threading.Lock()


class _CompiledAtFirstCall:
    """A function of librosa that numba compiles when it is called, or when one of its attributes is read."""

    def __init__(self, compile_function: Callable[[], Any], function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self._compile = functools.cache(compile_function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compile()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compile(), name)


def _postpone(decorator: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's decorator, which compiles functions of librosa at their first call, and others at once."""

    def postponing(*args: Any, **options: Any) -> Any:
        decorate = decorator(*args, **options)

        def wrap(function: Callable[..., Any]) -> Any:
            if not function.__module__.startswith("librosa."):
                return decorate(function)
            return _CompiledAtFirstCall(lambda: decorate(function), function)

        return wrap

    return postponing


def import_librosa() -> Any:
    """Import librosa with its core, and return it. If the core was imported before, nothing changes."""
    import librosa
    import numba

    with _lock:
        guvectorize, vectorize = numba.guvectorize, numba.vectorize
        numba.guvectorize, numba.vectorize = _postpone(guvectorize), _postpone(vectorize)
        try:
            import librosa.core.constantq
            import librosa.util.utils
        finally:
            numba.guvectorize, numba.vectorize = guvectorize, vectorize
    return librosa
