"""Registries of spec classes by kind, one for datasets, encoders, classifiers, ...

A class registers itself with a decorator in its own file. On first use a registry imports all files of its folder and
the entry points of other packages, so adding a kind means adding one file.
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
    """The registered spec classes of one family, such as encoders.

    Args:
        noun: the word in messages, such as "encoder".
        package: the package whose files register kinds; also the name of the entry point group.
        attribute: class attribute that holds the kind of a registered class.
    """

    def __init__(self, noun: str, package: str, attribute: str = "kind"):
        self.noun = noun
        self.package = package
        self.attribute = attribute
        self._classes: dict[str, type[S]] = {}
        self._loaded = False

    def register(self, kind: str) -> Callable[[type[S]], type[S]]:
        """Register a spec class under a kind.

        Raises:
            VlmAudioError: if another class has that kind; the message names both classes.
        """

        def add(cls: type[S]) -> type[S]:
            other = self._classes.get(kind)
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise VlmAudioError(
                    f"{self.noun} kind '{kind}' must be registered once, got {other.__module__}.{other.__qualname__} "
                    f"and {cls.__module__}.{cls.__qualname__}; rename one of them"
                )
            setattr(cls, self.attribute, kind)
            self._classes[kind] = cls
            return cls

        return add

    def get(self, kind: str) -> type[S]:
        """Return the spec class of a kind.

        Raises:
            VlmAudioError: for an unknown kind, with a suggestion and all options.
        """
        classes = self.all()
        if kind not in classes:
            raise VlmAudioError(f"unknown {self.noun} kind '{kind}'; {suggestion(kind, classes)}")
        return classes[kind]

    def all(self) -> dict[str, type[S]]:
        """Return every registered kind with its class, sorted by kind.

        Raises:
            VlmAudioError: if an entry point of another package cannot be loaded.
        """
        if not self._loaded:
            self._loaded = True  # set first, because a file may use the registry while it is imported
            try:
                self._load()
            except BaseException:
                self._loaded = False  # an incomplete registry must not be used
                raise
        return dict(sorted(self._classes.items()))

    def _load(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, self.package + "."):
            importlib.import_module(module.name)
        for point in entry_points(group=self.package):
            try:
                point.load()
            except VlmAudioError:
                raise
            except Exception as error:
                origin = point.dist.name if point.dist else "an installed package"
                raise VlmAudioError(
                    f"cannot import {self.noun} '{point.name}' ({point.value}) of {origin}: {type(error).__name__}: {error}; "
                    f"update or uninstall {origin}"
                ) from error
