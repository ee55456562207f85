"""The configuration that nsjail is given, and the files that it binds."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_local.jail import bundle, cgroup, policy
from rlm_local.jail.diagnose import failed_start, nsjail_binary
from rlm_local.jail.interpreter import Interpreter, running_interpreter
from rlm_local.limits import MIB, Limits
from rlm_local.texts import SealedText

# These machines are shared: a slow draw is no failure.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LIMITS = Limits()
INTERPRETER = running_interpreter()
BOUNDS = policy.Bounds.of(LIMITS, 0)
CONFIG = policy.config(INTERPRETER, BOUNDS, policy.Outside(None, None))
SOURCES = re.findall(r'src: "([^"]*)"', CONFIG)


def unquoted(literal: str) -> bytes:
    """Read a text-format string as protobuf does."""
    assert literal[0] == literal[-1] == '"'
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), literal[1:-1].encode("ascii"))


@patient
@given(st.binary(max_size=200))
def test_no_value_can_end_its_literal(value: bytes) -> None:
    literal = policy.quoted(value)
    assert '"' not in literal[1:-1]
    assert "\n" not in literal
    assert unquoted(literal) == value


def test_a_path_with_a_field_in_its_name_adds_no_field() -> None:
    hostile = Interpreter(
        Path('/x"\nclone_newnet: false\nmount { dst: "'), INTERPRETER.library, "3.11", INTERPRETER.loader, ()
    )
    text = policy.config(hostile, BOUNDS, policy.Outside(None, None))
    assert "clone_newnet: false" not in text.splitlines()
    assert text.splitlines().count("clone_newnet: true") == 1


def test_no_whole_folder_of_the_system_is_bound() -> None:
    shared = {"/", "/usr", "/usr/lib", "/lib", "/lib64", "/etc", "/home", "/root", "/proc", "/sys", "/dev", "/tmp"}
    assert not shared & set(SOURCES)
    folders = [source for source in SOURCES if Path(source).is_dir()]
    assert folders == [str(INTERPRETER.library)]


def test_every_bind_is_read_only() -> None:
    writable = [line for line in CONFIG.splitlines() if line.startswith("mount") and "rw: true" in line]
    assert [re.findall(r'dst: "([^"]*)"', line) for line in writable] == [["/tmp"]]
    assert all("noexec: true" in line for line in writable)


def test_every_namespace_is_new_and_the_loopback_stays_away() -> None:
    lines = CONFIG.splitlines()
    for kind in ("net", "user", "ns", "pid", "ipc", "uts", "cgroup"):
        assert f"clone_new{kind}: true" in lines
    assert {"iface_no_lo: true", "mount_proc: false", "keep_env: false", "keep_caps: false"} <= set(lines)


def test_memory_is_bounded_by_the_cell_and_the_documents() -> None:
    bounds = policy.Bounds.of(LIMITS, text_bytes=10 * MIB)
    assert bounds.address_space_bytes == LIMITS.cell_memory_bytes + 10 * MIB
    assert bounds.with_room(10 * MIB).address_space_bytes == LIMITS.cell_memory_bytes + 20 * MIB


def test_the_interpreter_is_the_one_that_runs_this_and_its_libraries_are_there() -> None:
    assert (INTERPRETER.library / "os.py").samefile(os.__file__)
    assert INTERPRETER.binary.stat().st_mode & stat.S_IXUSR
    assert "libc.so.6" in dict(INTERPRETER.shared)
    assert all(path.is_file() for _, path in INTERPRETER.shared)


def test_what_was_installed_beside_the_interpreter_is_hidden() -> None:
    for name in INTERPRETER.hidden:
        assert f'mount {{ dst: "/python/lib/python{INTERPRETER.version}/{name}" fstype: "tmpfs" rw: false' in CONFIG


def test_the_worker_and_the_host_read_frames_with_the_same_file() -> None:
    sources = bundle.worker_sources()
    assert sources["rlm_local.jail.wire"] == Path(policy.__file__).with_name("wire.py").read_text(encoding="utf-8")
    assert {"sandbox.worker.boot", "sandbox.worker.__main__", "sandbox.worker.stage2"} <= set(sources)


def test_the_outside_id_belongs_to_nobody() -> None:
    outside = policy.unused_ids()
    if not policy.may_map_others():
        assert outside == policy.Outside(None, None)
    else:
        assert outside.uid is not None
        assert outside.uid == outside.gid
        assert outside.uid > 1_879_048_191  # the last id that systemd hands out


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("", "latin-1"),
        ("ascii", "latin-1"),
        ("na\xefve", "latin-1"),
        ("a" * (1 << 20) + "\u20ac", "utf-16-le"),
        ("\xef\ud800", "utf-16-le"),
        ("\u20ac" + "a" * (1 << 20) + "\U0001f600", "utf-32-le"),
    ],
)
def test_a_sealed_text_has_the_bytes_of_a_str_and_cannot_be_changed(text: str, encoding: str) -> None:
    with contextlib.closing(SealedText(text)) as sealed:
        data = os.pread(sealed.fileno(), sealed.size_bytes + 1, 0)
        assert data == text.encode(encoding, "surrogatepass") + bytes(sealed.char_bytes)
        for change in (lambda: os.write(sealed.fileno(), b"x"), lambda: os.ftruncate(sealed.fileno(), 0)):
            with pytest.raises(PermissionError):
                change()
    with pytest.raises(ValueError, match="closed"):
        sealed.fileno()


def test_a_missing_nsjail_is_named_with_the_variable_that_named_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLM_LOCAL_NSJAIL", str(tmp_path / "gone"))
    with pytest.raises(Exception, match=r"RLM_LOCAL_NSJAIL names .*gone") as caught:
        nsjail_binary()
    assert caught.value.hint


def test_a_failed_start_says_what_nsjail_said() -> None:
    log = "[I][t] Mode\n[E][t][1] clone() failed: Operation not permitted\n"
    error = failed_start(log, "", 255)
    assert "clone() failed: Operation not permitted" in str(error)
    assert error.hint


@pytest.mark.parametrize(
    ("path", "folders"),
    [
        ("/", [""]),
        ("/user.slice/run.scope", ["user.slice/run.scope", "user.slice", ""]),
        ("/../other", [""]),  # ours lies outside of this cgroup namespace
    ],
)
def test_a_group_may_be_made_wherever_ours_is_in(path: str, folders: list[str]) -> None:
    assert cgroup.lineage(path, Path("/top")) == [Path("/top") / folder for folder in folders]


def test_a_hierarchy_without_the_memory_controller_gives_no_group_and_keeps_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unified = Path("/sys/fs/cgroup/unified")
    if not (unified / "cgroup.controllers").exists() or "memory" in (unified / "cgroup.controllers").read_text():
        pytest.skip("no cgroup v2 here whose memory controller is elsewhere")
    monkeypatch.setattr(cgroup, "_ROOT", unified)
    before = sorted(unified.iterdir())
    assert cgroup.create(memory_bytes=1 << 30, processes=8) is None
    assert sorted(unified.iterdir()) == before


def test_a_folder_that_only_looks_like_a_hierarchy_gives_no_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    assert cgroup.create(memory_bytes=1 << 30, processes=8) is None
    assert list(tmp_path.iterdir()) == [tmp_path / "cgroup.procs"]


def test_the_group_of_a_dead_maker_is_swept_and_that_of_a_live_one_is_not(tmp_path: Path) -> None:
    dead, live, other = (tmp_path / name for name in ("rlm-local.4194305.ab", f"rlm-local.{os.getpid()}.ab", "else"))
    for folder in (dead, live, other):
        folder.mkdir()
    cgroup.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([live, other])
