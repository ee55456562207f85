"""The worker's first lines: its modules come from memory, compiled by the host, and none of them from a file.

`python -c` runs this with `modules` in place: code by module name. Reading and compiling thirteen files took a third
of a jail's start.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery is this and a search of files
from types import CodeType, ModuleType

_modules: dict[str, CodeType | None] = globals()["modules"]  # None stands for a package that holds nothing itself


class _Finder:
    """Finds the worker's own modules, before any folder is looked at."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in _modules:
            return None
        return ModuleSpec(name, self, origin="worker", is_package=_modules[name] is None)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if code := _modules[module.__name__]:
            exec(code, vars(module))


sys.meta_path.insert(0, _Finder())

from sandbox.worker.__main__ import main  # noqa: E402  # found by what the line above put in place

main()
