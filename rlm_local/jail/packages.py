"""Installed packages that a jail may import: their files, by their own records, and the libraries that these link.

A package is bound by what its installer has recorded, never by its folder's neighbours: a folder that several packages
share is bound piece by piece, and of what describes a package only METADATA, which `importlib.metadata` asks for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import machinery, metadata
from pathlib import Path, PurePosixPath

from rlm_local.errors import ConfigError
from rlm_local.jail.interpreter import Interpreter, linked, running_interpreter

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^]]*)\])?[^;]*(?:;(?P<marker>.*))?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")
_LIBRARY = re.compile(r"\.so(\.[0-9]+)*$")
_DESCRIBES = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class Packages:
    """What is bound for a run. Empty: the standard library only."""

    named: tuple[str, ...] = ()  # those that were asked for, as "numpy==2.4.6"
    modules: tuple[str, ...] = ()  # that those bring
    bound: tuple[str, ...] = ()  # by name: those, and all that they require
    files: tuple[tuple[str, Path], ...] = ()  # where in the jail, below its folder of packages; where on the host
    shared: tuple[tuple[str, Path], ...] = ()  # soname, file: libraries from elsewhere that they link

    def __bool__(self) -> bool:
        return bool(self.named)


NO_PACKAGES = Packages()


def find_packages(names: Sequence[str]) -> Packages:
    """Return the installed packages of these names, with all that they require and that is installed.

    Raises ConfigError, with the name, for one that is not installed, or whose files cannot be told.
    """
    if not names:
        return NO_PACKAGES
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no package's name", hint="--jail-packages takes names with commas between")
    chosen = {_canonical(name): _installed(name) for name in names}
    whole = _with_requirements(chosen)
    recorded: dict[Path, set[str]] = {}
    for distribution in whole.values():
        recorded.setdefault(_root(distribution), set()).update(_recorded(distribution))
    files = [(path, root / path) for root, paths in recorded.items() for path in _largest(root, paths)]
    return Packages(
        named=tuple(f"{one.name}=={one.version}" for one in chosen.values()),
        modules=tuple(sorted({module for one in chosen.values() for module in _modules(one)})),
        bound=tuple(sorted(one.name for one in whole.values())),
        files=tuple(sorted(files)),
        shared=tuple(sorted(_shared(recorded, [source for _, source in files]).items())),
    )


def with_packages(interpreter: Interpreter, packages: Packages) -> Interpreter:
    """Return the interpreter with the packages beside it."""
    # Where both link a library of one name, the interpreter's is what a process outside would have loaded first, too.
    shared = {**dict(packages.shared), **dict(interpreter.shared)}
    return replace(interpreter, shared=tuple(sorted(shared.items())), packages=packages.files)


def _installed(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise ConfigError(
                f"{name} is a module of the standard library, which code in the jail has already",
                hint=f"leave {name} out of --jail-packages",
            ) from None
        bringing = metadata.packages_distributions().get(name, [])
        hint = f"{name} is a module of {bringing[0]}: name that" if bringing else f"pip install {name}, or leave it out"
        raise ConfigError(f"the package {name} is not installed, so no jail can have it", hint=hint) from None


def _with_requirements(chosen: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """Return these and all that they require, by canonical name. Raises ConfigError for one that is missing.

    What only another system or Python needs is told by being absent: a requirement with a condition may be.
    """
    found = dict(chosen)
    pending: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in chosen]
    seen = set(pending)
    while pending:
        name, extras = pending.pop()
        for line in found[name].requires or ():
            asked = _REQUIREMENT.match(line)
            marker = (asked and asked["marker"]) or ""
            wanted_by = {_canonical(extra) for extra in _EXTRA.findall(marker)}
            if asked is None or (wanted_by and not wanted_by & extras):
                continue
            required = _canonical(asked["name"])
            if required not in found:
                try:
                    found[required] = metadata.distribution(required)
                except metadata.PackageNotFoundError:
                    if marker:
                        continue
                    raise ConfigError(
                        f"the package {name} requires {required}, which is not installed", hint=f"pip install {name}"
                    ) from None
            more = (required, frozenset(map(_canonical, filter(None, re.split(r"[\s,]+", asked["extras"] or "")))))
            if more not in seen:
                seen.add(more)
                pending.append(more)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _root(distribution: metadata.Distribution) -> Path:
    return Path(str(distribution.locate_file(""))).resolve()


def _recorded(distribution: metadata.Distribution) -> Iterator[str]:
    """Yield the files of a package that a jail may have, relative to the folder where it is installed."""
    if distribution.files is None:
        raise ConfigError(
            f"the package {distribution.name} has no record of its files, so they cannot be bound one by one",
            hint="install it with pip",
        )
    root = _root(distribution)
    for file in distribution.files:
        path = PurePosixPath(file)
        top = path.parts[0]
        if path.is_absolute() or ".." in path.parts or "__pycache__" in path.parts or path.suffix == ".pth":
            continue  # programs and pages of the manual lie outside; nobody reads a .pth in there
        if top.endswith(_DESCRIBES) and path.parts[1:] != ("METADATA",):
            continue  # the rest tells where it was installed from
        if (root / path).is_file():
            yield str(path)


def _modules(distribution: metadata.Distribution) -> set[str]:
    """Return the names that a package's users import. Raises ConfigError where there is none."""
    suffixes = [".py", *machinery.EXTENSION_SUFFIXES]
    found = set()
    for file in map(PurePosixPath, _recorded(distribution)):
        if suffix := next((suffix for suffix in suffixes if file.name.endswith(suffix)), ""):
            name = file.parts[0] if len(file.parts) > 1 else file.name.removesuffix(suffix)
            if name.isidentifier() and not name.startswith("_"):
                found.add(name)
    if not found:
        raise ConfigError(
            f"the package {distribution.name} brings no module that a jail could have",
            hint="an editable install has none; install it as a wheel",
        )
    return found


def _largest(root: Path, recorded: set[str]) -> Iterator[str]:
    """Yield the largest folders below root that hold nothing else than what is recorded, and the files beside them."""
    below: dict[str, set[str]] = {}
    for path in recorded:
        whole = PurePosixPath(path)
        for parent in whole.parents:
            below.setdefault(str(parent), set()).add(str(whole))
            whole = parent
    pending = sorted(below.get(".", ()))
    while pending:
        path = pending.pop()
        if path in recorded or _holds_only(root, path, recorded):
            yield path
        else:
            pending += sorted(below[path])


def _holds_only(root: Path, folder: str, recorded: set[str]) -> bool:
    """Whether every file of a folder is recorded, apart from the bytecode that Python itself puts there."""
    for parent, _, names in os.walk(root / folder):
        if not parent.endswith("__pycache__"):
            here = Path(parent).relative_to(root)
            if any(str(here / name) not in recorded for name in names):
                return False
    return True


def _shared(recorded: dict[Path, set[str]], bound: Iterable[Path]) -> dict[str, Path]:
    """Return soname and file of each library that the packages' own libraries link and that is not among their files.

    Those that are find each other as they do outside: by paths relative to themselves.
    """
    own = [str(path.resolve()) for path in bound]
    shared = {}
    for root, paths in recorded.items():
        libraries = sorted(path for path in paths if _LIBRARY.search(path) and _is_for_this_python(path))
        if strange := [path for path in libraries if re.search(r"[\s:]", path)]:
            raise ConfigError(f"{root / strange[0]}: a library with a space or a colon in its name cannot be bound")
        if libraries:
            for name, path in linked(running_interpreter().binary, libraries, root):
                real = str(path.resolve())
                if not name.startswith("/") and not any(real == one or real.startswith(f"{one}/") for one in own):
                    shared[name] = path
    return shared


def _is_for_this_python(path: str) -> bool:
    return ".cpython-" not in path or path.endswith(tuple(machinery.EXTENSION_SUFFIXES))
