"""`--jail-packages`: what a record names is bound, nothing beside it, and code can import it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rlm_local.errors import ConfigError, JailUnavailable
from rlm_local.jail import JailPool, JailSession, Packages, find_packages, policy, require_imports
from rlm_local.jail.interpreter import running_interpreter
from rlm_local.jail.packages import with_packages
from rlm_local.types import CellResult, CellStatus
from sandbox.worker import packages as worker_packages
from tests.jail.conftest import CORPUS, LIMITS, Start, echo

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, which Python finds first."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def install(site: Path) -> Install:
    """Install a package as pip leaves it: files, METADATA, RECORD."""

    def put(name: str, files: Mapping[str, str], *requires: str, recorded: bool = True) -> None:
        info = f"{name.replace('-', '_')}-1.0.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requires)]
        secret = {f"{info}/direct_url.json": '{"url": "https://user:word@example.invalid"}'}
        whole = {**files, **secret, f"{info}/METADATA": "\n".join([*lines, "", ""])}
        for path, text in whole.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text, encoding="utf-8")
        if recorded:
            record = "".join(f"{path},,\n" for path in [*whole, f"{info}/RECORD"])
            (site / info / "RECORD").write_text(record, encoding="utf-8")

    return put


async def cell(session: JailSession, code: str) -> CellResult:
    return await session.execute(code, wall_s=60, query=echo)


def bound(packages: Packages) -> list[str]:
    return [name for name, _ in packages.files]


def test_a_package_is_bound_with_what_it_requires_and_of_its_papers_with_nothing_but_metadata(
    install: Install, site: Path
) -> None:
    install("one-toy", {"one/__init__.py": "", "one/data/x.txt": "x", "../bin/one": ""}, "Two_Toy>=1")
    install("two-toy", {"two.py": "", "two_more/__init__.py": ""})
    found = find_packages(["One.Toy"])
    papers = ["one_toy-1.0.dist-info/METADATA", "two_toy-1.0.dist-info/METADATA"]
    assert bound(found) == sorted(["one", "two.py", "two_more", *papers])
    assert dict(found.files)["one"] == site / "one"
    assert (found.named, found.modules) == (("one-toy==1.0",), ("one",))


def test_of_a_folder_that_two_packages_share_only_the_own_part_is_bound(install: Install, site: Path) -> None:
    install("mine", {"shared/mine/__init__.py": "", "shared/mine/deep/a.py": "", "shared/note.py": ""})
    install("other", {"shared/other/__init__.py": "secret = 1"})
    (site / "shared/mine/__pycache__").mkdir()
    (site / "shared/mine/__pycache__/a.pyc").write_text("")
    assert bound(find_packages(["mine"])) == ["mine-1.0.dist-info/METADATA", "shared/mine", "shared/note.py"]
    (site / "shared/mine/deep/left-here.txt").write_text("by somebody")
    assert bound(find_packages(["mine"]))[1:] == ["shared/mine/__init__.py", "shared/mine/deep/a.py", "shared/note.py"]


def test_what_only_another_system_or_an_extra_needs_may_be_missing(install: Install) -> None:
    install("part", {"part.py": ""}, 'absent; extra == "all"', 'winapi>=2; sys_platform == "win32"')
    assert bound(find_packages(["part"])) == ["part-1.0.dist-info/METADATA", "part.py"]
    install("whole", {"whole.py": ""}, "part[all]")
    install("absent", {"absent.py": ""})
    assert "absent.py" in bound(find_packages(["whole"]))
    assert "absent.py" not in bound(find_packages(["part"]))


def test_what_cannot_be_bound_is_refused_by_name(install: Install) -> None:
    install("lacking", {"lacking.py": ""}, "nowhere>=2")
    install("editable", {"__editable__.editable.pth": "/src"})
    install("unrecorded", {"unrecorded.py": ""}, recorded=False)
    install("by-another-name", {"module_of_it.py": ""})
    for name, said in (
        ("never-installed", "the package never-installed is not installed"),
        ("lacking", "the package lacking requires nowhere, which is not installed"),
        ("editable", "the package editable brings no module"),
        ("unrecorded", "the package unrecorded has no record of its files"),
        ("../x", "'../x' is no package's name"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            find_packages([name])
        assert refused.value.hint
    with pytest.raises(ConfigError) as refused:
        find_packages(["module_of_it"])
    assert refused.value.hint == "module_of_it is a module of by-another-name: name that"


def test_no_package_adds_nothing() -> None:
    assert not find_packages([])
    assert with_packages(running_interpreter(), find_packages([])) == running_interpreter()


@pytest.mark.jail
async def test_a_package_can_be_imported_and_not_changed_and_its_neighbours_are_not_there(
    install: Install, start: Start
) -> None:
    install("toy", {"toy/__init__.py": "word = 'toy'", "textwrap.py": "raise SystemExit('not Python\\'s own')"})
    install("neighbour", {"neighbour.py": ""})
    session = await start(packages=find_packages(["toy"]))
    code = "import importlib.metadata, toy, textwrap\nprint(toy.word, textwrap.dedent(' x'), "
    assert (await cell(session, code + "importlib.metadata.version('toy'))")).stdout == "toy x 1.0\n"
    listed = await cell(
        session, "import os\nprint(sorted(os.listdir('/python/packages')), os.listdir(toy.__path__[0]))"
    )
    assert listed.stdout == "['textwrap.py', 'toy', 'toy-1.0.dist-info'] ['__init__.py']\n"
    for action in (
        "open('/python/packages/x', 'w')",
        "open(toy.__file__, 'w')",
        "os.rename(toy.__file__, toy.__file__ + 'x')",
        "os.chmod(toy.__file__, 0o777)",
    ):
        assert "Read-only file system" in (await cell(session, action)).error
    for module in ("neighbour", "pytest"):
        assert "ModuleNotFoundError" in (await cell(session, f"import {module}")).error
    assert "direct_url" not in (await cell(session, "print(list(os.walk('/python/packages')))")).stdout


@pytest.mark.jail
async def test_a_jail_that_has_waited_has_the_pools_packages_and_a_run_with_others_gets_its_own(
    install: Install, real_jail: None
) -> None:
    install("toy", {"toy.py": ""})
    toy = find_packages(["toy"])
    async with JailPool(1, packages=toy) as pool:
        await pool.full()
        async with await JailSession.start(CORPUS, LIMITS, jails=pool.open) as plain:
            assert "ModuleNotFoundError" in (await cell(plain, "import toy")).error
        async with await JailSession.start(CORPUS, LIMITS, jails=pool.open, packages=toy) as session:
            assert (await cell(session, "import toy")).status is CellStatus.OK
        assert (pool.counts.missed, pool.counts.taken) == (1, 1)


@pytest.mark.jail
async def test_a_module_that_does_not_work_in_there_is_named_before_a_model_is_told_of_it(
    install: Install, real_jail: None
) -> None:
    install("forks", {"forks.py": "import os\nos.fork()"})
    with pytest.raises(JailUnavailable, match=r"^forks cannot be imported in the jail: PermissionError"):
        await require_imports(find_packages(["forks"]), LIMITS)
    install("works", {"works.py": ""})
    await require_imports(find_packages(["works"]), LIMITS)


class TestNumpy:
    """With native libraries of its own and of the system."""

    @pytest.fixture
    def numpy(self) -> Packages:
        pytest.importorskip("numpy")
        return find_packages(["numpy"])

    def test_its_own_libraries_stay_with_it_and_those_of_the_system_are_added(self, numpy: Packages) -> None:
        assert "numpy" in bound(numpy)
        assert not [name for name, _ in numpy.shared if "openblas" in name]
        whole = with_packages(running_interpreter(), numpy)
        assert {name for name, _ in numpy.shared} | dict(running_interpreter().shared).keys() == dict(
            whole.shared
        ).keys()
        assert all(path.is_file() for _, path in whole.shared)

    @pytest.mark.jail
    async def test_it_computes_on_one_core_within_the_cells_memory(self, numpy: Packages, start: Start) -> None:
        session = await start(packages=numpy)
        result = await cell(
            session,
            "import os\nimport numpy as np\n"
            "print(round(np.linalg.det(np.eye(200) * 1.01), 4), (np.ones((500, 500)) @ np.ones((500, 500))).sum())\n"
            "print(sum(name.endswith('_NUM_THREADS') for name in os.environ), len(os.sched_getaffinity(0)))",
        )
        assert result.stdout == "7.316 125000000.0\n3 1\n", result.error
        large = await cell(session, f"np.ones({LIMITS.cell_memory_bytes})")
        assert large.status is CellStatus.OUT_OF_MEMORY
        assert (await cell(session, "print(np.arange(3).sum())")).stdout == "3\n"

    @pytest.mark.jail
    async def test_its_draws_are_the_same_when_a_session_is_rebuilt(self, numpy: Packages, start: Start) -> None:
        session = await start(packages=numpy)
        drawn = (await cell(session, "import numpy\nx = numpy.random.rand(3).tolist()\nprint(x)")).stdout
        assert (await cell(session, "import os\nos._exit(0)")).status is CellStatus.KILLED
        assert (await cell(session, "print(x)")).stdout == drawn

    @pytest.mark.jail
    async def test_its_code_can_be_neither_written_nor_made(self, numpy: Packages, start: Start) -> None:
        session = await start(packages=numpy)
        result = await cell(
            session,
            "import ctypes, numpy as np\nfrom numpy._core import _multiarray_umath as library\n"
            "a = np.zeros(4096, np.uint8)\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "page = a.ctypes.data & ~4095\n"
            "print(libc.mprotect(ctypes.c_void_p(page), 4096, 7), ctypes.get_errno())\n"
            "own = int(ctypes.cast(ctypes.PyDLL(library.__file__).PyInit__multiarray_umath, ctypes.c_void_p).value)\n"
            "print(libc.mprotect(ctypes.c_void_p(own & ~4095), 4096, 7), ctypes.get_errno())\n",
        )
        assert result.stdout == "-1 1\n-1 1\n", result.error


def test_the_worker_looks_where_the_host_binds() -> None:
    assert worker_packages.FOLDER == policy.PACKAGES
