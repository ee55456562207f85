"""`make demo`: one real question over the licence texts that stand on this machine, none of them ours.

Prints what it does and then becomes `rlm-local ask`, so that its exit code and its Ctrl-C are that command's.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

QUESTION = (
    "Under the Apache License 2.0, as of which date do the patent licenses terminate "
    "if You institute patent litigation?"
)

COMMON_LICENSES = Path("/usr/share/common-licenses")  # Debian and its kin
NAMES = ("LICEN", "COPYING", "NOTICE", "AUTHORS")  # how licence files begin, in capitals


def main() -> NoReturn:
    candidates = [*common_licenses(), *package_licenses(Path(sysconfig.get_path("purelib")))]
    chosen, chars = distinct_texts(candidates)
    if not chosen:
        sys.exit("error: no licence text on this machine; run `make setup` first")
    same = len(candidates) - len(chosen)
    print(f"documents: {len(chosen)} licence texts, {chars:,} characters ({same} repeats left out)", file=sys.stderr)
    ask = Path(sys.executable).parent / "rlm-local"
    print(f"command:   {ask.name} ask {shlex.quote(QUESTION)} ...", file=sys.stderr, flush=True)
    os.execv(ask, [str(ask), "ask", QUESTION, *map(_short, chosen)])


def common_licenses() -> list[Path]:
    """Return the system's licence texts, without the links that give one text a second name."""
    if not COMMON_LICENSES.is_dir():
        return []
    return sorted(path for path in COMMON_LICENSES.iterdir() if path.is_file() and not path.is_symlink())


def package_licenses(site_packages: Path) -> list[Path]:
    """Return the licence files that installed packages carry in their dist-info folders."""
    return sorted(
        path
        for path in site_packages.glob("*.dist-info/**/*")
        if path.is_file() and path.name.upper().startswith(NAMES)
    )


def distinct_texts(paths: Iterable[Path]) -> tuple[list[Path], int]:
    """Return the paths whose text none before them has, and how many characters they hold.

    Files that are empty or not UTF-8 are left out: the demo is no place for warnings.
    """
    chosen: list[Path] = []
    chars = 0
    seen: set[bytes] = set()
    for path, text in _readable(paths):
        digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
        if text.strip() and digest not in seen:
            seen.add(digest)
            chosen.append(path)
            chars += len(text)
    return chosen, chars


def _readable(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        try:
            yield path, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _short(path: Path) -> str:
    """Return the path as seen from here when it is below, so that citations read well."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
