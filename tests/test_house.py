"""The house stays as drawn: floors, doors, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rlm_local
from tools import architecture

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for path in (ROOT / "rlm_local").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def test_no_floor_imports_from_above() -> None:
    lint = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_the_door_shows_what_it_says() -> None:
    assert rlm_local.__all__ == sorted(rlm_local.__all__)
    assert all(hasattr(rlm_local, name) for name in rlm_local.__all__)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, rlm_local; print(sorted({'click', 'httpx', 'numpy', 'llama_cpp', 'rich'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("click", {"cli"}),
        ("llama_cpp", {"engine/llama/binding.py"}),
        ("nsjail", {"jail"}),
        ("huggingface_hub", {"store"}),
        ("starlette", {"engine/llama", "server"}),
        ("uvicorn", {"engine/llama", "server", "connection.py"}),
        ("fastapi", {"server"}),
        ("pydantic", {"server"}),
        ("rich", {"cli"}),
    ],
)
def test_a_library_stays_in_its_room(library: str, rooms: set[str]) -> None:
    importing = {
        str(path.relative_to(ROOT / "rlm_local"))
        for path in SOURCES
        if re.search(rf"^\s*(import|from) {library}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing
    assert not {path for path in importing if not path.startswith(tuple(rooms))}


def test_the_architecture_names_every_file_in_its_own_words() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert page == architecture.with_files(page), "run `python -m tools.architecture`"
    assert all(architecture.first_sentence(path) for path in SOURCES if path.name != "__init__.py")


def test_every_function_that_asserts_is_collected() -> None:
    """A test whose name lacks `test_` never runs, and nobody notices."""
    for path in TESTS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("test_"):
                continue
            asserts = any(isinstance(child, ast.Assert) for child in ast.walk(node))
            fixture = any("fixture" in ast.dump(decorator) for decorator in node.decorator_list)
            assert not asserts or fixture or node.name in called, f"{path.name}: {node.name} asserts but never runs"


def test_the_wheel_carries_every_data_room() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    forced = build["targets"]["wheel"]["force-include"]
    assert forced == {name: f"rlm_local/_rooms/{name}" for name in ("models", "grammars", "sandbox")}
    assert all((ROOT / name).is_dir() for name in forced)
