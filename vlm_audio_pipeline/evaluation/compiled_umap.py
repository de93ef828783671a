"""Import umap-learn so that its compiled code is kept on disk.

umap-learn compiles most of its functions in every process that uses it, about 10 s. Numba keeps compiled functions beside
their source (or in the user's cache folder) if they are declared with `cache=True`; umap-learn declares few of them so.
https://numba.readthedocs.io/en/stable/developer/caching.html
"""

import sys
from typing import Any


def import_umap() -> Any:
    """Import umap-learn; a function that is compiled from now on is stored, and loaded in later processes."""
    import umap
    from numba.core.registry import CPUDispatcher

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("umap", "pynndescent"):
            for function in list(vars(module).values()):
                if isinstance(function, CPUDispatcher) and not function.signatures:
                    _enable_caching(function)
    return umap


def _enable_caching(function: Any) -> None:
    try:
        function.enable_caching()
    except RuntimeError:  # no folder is writable: the function is compiled in each process
        return
