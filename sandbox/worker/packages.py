"""Packages that the host has bound for this run: cells can import them, after everything of Python's own."""

from __future__ import annotations

import sys
from _frozen_importlib_external import PathFinder  # what the import statement itself asks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _frozen_importlib import ModuleSpec
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

FOLDER = "/python/packages"
_SEED = 0  # a replayed cell draws the same numbers


def offer() -> None:
    """Let cells import what lies in the folder."""
    sys.path.append(FOLDER)
    sys.meta_path.insert(1, _SeededNumpy())  # behind the worker's own modules, before all that is in folders


class _SeededNumpy:
    """Finds numpy.random, and seeds its global generator when it has been imported, whoever imports it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name != "numpy.random":
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Seeding(spec.loader)  # type: ignore[assignment]  # a loader by what it does
        return spec


class _Seeding:
    """A loader like the one that it was made of, but for the seed."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.seed(_SEED)
