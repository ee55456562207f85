from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tools import demo, llama_wheel, pytest_tiers, setup
from tools.__main__ import too_old
from tools.llama_wheel import AMX_OFF, Compilers, Ran, Recipe, SetupError

COMPILERS = Compilers("cc", "c++", ("cc 12.2.0", "c++ 12.2.0"))
RECIPE = Recipe(
    version="0.3.36",
    python_abi="cpython-311",
    machine="x86_64",
    cpu_features=("avx2", "fma"),
    compilers=COMPILERS.versions,
    cflags="-mno-amx-tile",
    cxxflags="-mno-amx-tile",
    cmake_args="",
)


class Shell:
    """Compilers that exist by name only, and know all flags but some."""

    def __init__(self, *programs: str, unknown_flags: Sequence[str] = ()) -> None:
        self._programs = programs
        self._unknown = set(unknown_flags)

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Ran:
        if argv[0] not in self._programs:
            raise FileNotFoundError(argv[0])
        if unknown := self._unknown.intersection(argv):
            return Ran(1, "", f"error: unrecognized command-line option {unknown}")
        return Ran(0, f"{argv[0]} 12.2.0\nCopyright\n", "")


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "0.3.37"},
        {"python_abi": "cpython-312"},
        {"machine": "aarch64"},
        {"cpu_features": ("avx2", "fma", "avx512f")},
        {"compilers": ("cc 13.1.0", "c++ 12.2.0")},
        {"cflags": ""},
        {"cxxflags": ""},
        {"cmake_args": "-DGGML_BLAS=ON"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_decides_the_build_is_in_the_cache_key(changed: dict[str, object]) -> None:
    assert replace(RECIPE, **changed).key != RECIPE.key


def test_a_key_is_a_plain_folder_name_that_begins_with_the_version() -> None:
    assert RECIPE.key.startswith("0.3.36-cpython-311-x86_64-")
    assert "/" not in RECIPE.key


def test_the_order_of_a_processors_features_does_not_matter() -> None:
    keys = {
        llama_wheel.recipe("1", {}, COMPILERS, (), machine="x86_64", cpu_features=features).key
        for features in (("avx2", "fma"), ("fma", "avx2"), ("fma", "avx2", "fma"))
    }
    assert len(keys) == 1


def test_what_the_user_set_stays_and_theirs_comes_last_in_cmake() -> None:
    environ = {"CFLAGS": "-O2", "CMAKE_ARGS": "-DLLAVA_BUILD=ON"}
    made = llama_wheel.recipe("1", environ, COMPILERS, AMX_OFF, machine="x86_64", cpu_features=())
    assert made.cflags == "-O2 -mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert made.cxxflags == "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    assert made.cmake_args == "-DLLAVA_BUILD=OFF -DLLAVA_BUILD=ON"


@pytest.mark.parametrize(
    ("machine", "unknown", "flags"),
    [
        ("x86_64", (), AMX_OFF),
        ("AMD64", (), AMX_OFF),
        ("x86_64", AMX_OFF, ()),  # a compiler older than AMX
        ("x86_64", AMX_OFF[2:], AMX_OFF[:2]),
        ("aarch64", (), ()),
    ],
)
def test_amx_is_turned_off_as_far_as_the_compiler_knows_it(
    machine: str, unknown: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    assert llama_wheel.amx_flags(machine, COMPILERS, Shell("cc", "c++", unknown_flags=unknown)) == flags


def test_the_compilers_that_the_user_names_are_used_and_no_other() -> None:
    shell = Shell("cc", "c++", "my-cc", "my-c++")
    found = llama_wheel.find_compilers({"CC": "my-cc", "CXX": "my-c++ -m64"}, shell)
    assert (found.c, found.cxx) == ("my-cc", "my-c++ -m64")
    assert found.versions == ("my-cc 12.2.0", "my-c++ 12.2.0")
    with pytest.raises(SetupError, match=r"no working C compiler \(tried gone\)"):
        llama_wheel.find_compilers({"CC": "gone"}, shell)


def test_a_compiler_under_another_usual_name_is_found() -> None:
    assert llama_wheel.find_compilers({}, Shell("clang", "clang++")).c == "clang"


@pytest.mark.parametrize(("programs", "language"), [((), "C"), (("cc",), r"C\+\+")])
def test_a_missing_compiler_names_the_package_to_install(programs: tuple[str, ...], language: str) -> None:
    with pytest.raises(SetupError, match=f"no working {language} compiler") as raised:
        llama_wheel.find_compilers({}, Shell(*programs))
    assert "build-essential" in raised.value.hint
    assert "gcc-c++" in raised.value.hint


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n", ("fpu", "avx2")),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", ("fp", "asimd", "sve")),
        ("processor\t: 0\n", ()),
    ],
)
def test_a_processors_features_are_read_on_intel_and_on_arm(cpuinfo: str, features: tuple[str, ...]) -> None:
    assert llama_wheel.cpu_features(cpuinfo) == features


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/home/ada"}, "/home/ada/.cache/rlm-local/wheels"),
        ({"HOME": "/home/ada", "XDG_CACHE_HOME": "/fast"}, "/fast/rlm-local/wheels"),
        ({"HOME": "/home/ada", "XDG_CACHE_HOME": "relative"}, "/home/ada/.cache/rlm-local/wheels"),
    ],
)
def test_wheels_are_kept_in_the_users_cache_folder(environ: dict[str, str], folder: str) -> None:
    assert llama_wheel.cache_folder(environ) == Path(folder)


def test_a_wheel_is_found_again_by_its_recipe_only(tmp_path: Path) -> None:
    (tmp_path / RECIPE.key).mkdir()
    wheel = tmp_path / RECIPE.key / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    wheel.touch()
    assert llama_wheel.cached_wheel(tmp_path, RECIPE) == wheel
    assert llama_wheel.cached_wheel(tmp_path, replace(RECIPE, cflags="")) is None


def test_a_build_that_fails_keeps_its_log_shows_the_end_of_it_and_leaves_no_wheel(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho CFLAGS are $CFLAGS\necho the last line\nexit 7\n")
    python.chmod(0o755)
    with pytest.raises(SetupError, match=r"could not be fetched or built \(exit code 7\)") as raised:
        llama_wheel.build_wheel(python, RECIPE, COMPILERS, tmp_path / "cache", {})
    assert "    CFLAGS are -mno-amx-tile\n    the last line" in str(raised.value)
    log = tmp_path / "cache" / f"build-{RECIPE.key}.log"
    assert raised.value.hint == f"the whole log is {log}"
    assert list((tmp_path / "cache").iterdir()) == [log]


def test_a_build_that_succeeds_leaves_the_wheel_and_nothing_else(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor folder; do :; done\nmkdir "$folder"\necho wheel > "$folder/llama.whl"\n')
    python.chmod(0o755)
    wheel = llama_wheel.build_wheel(python, RECIPE, COMPILERS, tmp_path / "cache", {})
    assert wheel == tmp_path / "cache" / RECIPE.key / "llama.whl"
    assert list((tmp_path / "cache").iterdir()) == [wheel.parent]


def test_the_engines_version_is_the_one_that_the_project_pins() -> None:
    project = {"project": {"optional-dependencies": {"llama": ["numpy>=1", "llama-cpp-python==0.3.36"]}}}
    assert setup.pinned_version(project, "llama", "llama-cpp-python") == "0.3.36"
    with pytest.raises(SetupError, match="does not pin numpy with =="):
        setup.pinned_version(project, "llama", "numpy")


@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")])
def test_a_machine_that_has_no_jail_is_told_before_anything_is_built(system: str, machine: str) -> None:
    with pytest.raises(SetupError, match=f"Linux on x86-64.*this is {system} on {machine}"):
        setup.require_platform(system, machine)
    setup.require_platform("linux", "x86_64")


def test_too_little_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"the environment needs 1048576\.0 GiB, and .* GiB free"):
        setup.require_space(tmp_path / "not" / "there" / "yet", 1 << 50, "the environment")


def test_a_command_that_fails_is_told_with_what_it_printed() -> None:
    with pytest.raises(SetupError, match=r"pip failed \(exit code 3\); it printed last:\n    no such package"):
        setup.run_quietly([sys.executable, "-c", "print('no such package'); raise SystemExit(3)"], "pip failed")


@pytest.mark.parametrize(
    ("version", "complaint"),
    [((3, 11, 0), ""), ((3, 14, 1), ""), ((3, 10, 9), "needs Python 3.11 or newer, and this is 3.10.9")],
)
def test_an_old_python_is_told_in_one_line(version: tuple[int, ...], complaint: str) -> None:
    assert complaint in too_old(version, ".".join(map(str, version)))
    assert bool(too_old(version, "")) is bool(complaint)


def test_the_entry_point_compiles_on_old_pythons() -> None:
    source = (setup.ROOT / "tools" / "__main__.py").read_text()
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source  # 3.6 does not know it


@pytest.mark.parametrize(
    ("markers", "tier"),
    [((), 0), (("parametrize",), 0), (("jail",), 1), (("engine", "jail"), 2), (("jail", "slow"), 3)],
)
def test_tests_run_in_the_order_unit_jail_engine_slow(markers: tuple[str, ...], tier: int) -> None:
    assert pytest_tiers.tier(frozenset(markers)) == tier


def test_the_demo_reads_each_licence_once_and_no_binary(tmp_path: Path) -> None:
    package = tmp_path / "thing-1.0.dist-info"
    (package / "licenses").mkdir(parents=True)
    (package / "licenses" / "LICENSE").write_text("Permission is granted.\n")
    (package / "COPYING").write_text("Permission  is\ngranted.")
    (package / "NOTICE.txt").write_text("Thanks.")
    (package / "LICENSE.bin").write_bytes(b"\xff\xfe")
    (package / "METADATA").write_text("Name: thing")
    found = demo.package_licenses(tmp_path)
    assert [path.name for path in found] == ["COPYING", "LICENSE.bin", "NOTICE.txt", "LICENSE"]
    chosen, chars = demo.distinct_texts(found)
    assert [path.name for path in chosen] == ["COPYING", "NOTICE.txt"]
    assert chars == len("Permission  is\ngranted.Thanks.")


def test_make_alone_lists_the_commands() -> None:
    done = subprocess.run(["make"], cwd=setup.ROOT, capture_output=True, text=True, check=True)
    for command in ("setup", "demo", "test", "test-unit", "check", "clean"):
        assert f"make {command} " in done.stdout
