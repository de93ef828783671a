"""One small registry a room: kind -> spec class.

A family registers itself with a decorator in its own file. The registry imports the files of its room when it is first
asked, and then the entry points other packages declare, so that adding a family is adding one file and removing it is
deleting that file.
"""

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.specs import Spec

S = TypeVar("S", bound=Spec)


class Registry(Generic[S]):
    """The kinds of one room.

    Args:
        what: the word used in messages, such as "encoder".
        package: the room whose files register kinds; also the name of the entry point group.
        default_kind: what an entry is that does not say its kind; None where it has to.
    """

    def __init__(self, what: str, package: str, default_kind: str | None = None):
        self.what = what
        self.package = package
        self.default_kind = default_kind
        self._classes: dict[str, type[S]] = {}
        self._loaded = False

    def register(self, kind: str) -> Callable[[type[S]], type[S]]:
        """Register a spec class under a kind.

        Raises:
            VlmAudioError: when another class holds that kind; the message names both origins.
        """

        def add(cls: type[S]) -> type[S]:
            there = self._classes.get(kind)
            if there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
                raise VlmAudioError(
                    f"{self.what} kind '{kind}' must be registered once, got {there.__module__}.{there.__qualname__} "
                    f"and {cls.__module__}.{cls.__qualname__}; rename one of them"
                )
            cls.kind = kind
            self._classes[kind] = cls
            return cls

        return add

    def get(self, kind: str) -> type[S]:
        """Give the spec class of a kind.

        Raises:
            VlmAudioError: for an unknown kind, with the one probably meant and all options.
        """
        classes = self.all()
        if kind not in classes:
            raise VlmAudioError(f"unknown {self.what} kind '{kind}'; {suggestion(kind, classes)}")
        return classes[kind]

    def all(self) -> dict[str, type[S]]:
        """Give every registered kind with its class, sorted by kind.

        Raises:
            VlmAudioError: when what another package registers cannot be loaded.
        """
        if not self._loaded:
            self._loaded = True  # first, for a file of the room may ask while it is imported
            try:
                self._load()
            except BaseException:
                self._loaded = False  # half a registry must not pass for a whole one
                raise
        return dict(sorted(self._classes.items()))

    def _load(self) -> None:
        room = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(room.__path__, self.package + "."):
            importlib.import_module(module.name)
        for point in entry_points(group=self.package):
            try:
                point.load()
            except VlmAudioError:
                raise
            except Exception as error:
                origin = point.dist.name if point.dist else "an installed package"
                raise VlmAudioError(
                    f"{self.what} '{point.name}' ({point.value}) of {origin} must be importable, got "
                    f"{type(error).__name__}: {error}; update or uninstall {origin}"
                ) from error
