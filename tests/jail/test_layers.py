"""A layer that every run needs and that is not there ends the run, by its name; nothing is run without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from rlm_local.errors import JailUnavailable
from rlm_local.jail import bundle, policy
from rlm_local.jail.session import JailSession

pytestmark = pytest.mark.jail


Start = Callable[..., Awaitable[JailSession]]


def changed_config(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    whole = policy.config

    def weaker(*arguments: object, **named: object) -> str:
        text = whole(*arguments, **named)  # type: ignore[arg-type]
        assert old in text
        return text.replace(old, new)

    monkeypatch.setattr(policy, "config", weaker)


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("clone_newnet: true", "clone_newnet: false", "network namespace"),
        ("clone_newipc: true", "clone_newipc: false", "ipc, uts, cgroup namespaces"),
        ("clone_newuts: true", "clone_newuts: false", "ipc, uts, cgroup namespaces"),
        ("clone_newcgroup: true", "clone_newcgroup: false", "ipc, uts, cgroup namespaces"),
        ("keep_caps: false", "keep_caps: true", "capabilities"),
    ],
)
async def test_a_layer_that_nsjail_leaves_out_ends_the_run(
    start: Start, monkeypatch: pytest.MonkeyPatch, old: str, new: str, missing: str
) -> None:
    changed_config(monkeypatch, old, new)
    with pytest.raises(JailUnavailable, match=f"the jail started without .*{missing}"):
        await start()


async def test_a_layer_that_the_worker_leaves_out_ends_the_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    sources, main, line = bundle.worker_sources(), "sandbox.worker.__main__", "    seccomp.install()\n"
    assert line in sources[main]
    monkeypatch.setattr(bundle, "worker_sources", lambda: {**sources, main: sources[main].replace(line, "")})
    monkeypatch.setattr(bundle, "worker_bundle", bundle.worker_bundle.__wrapped__)
    with pytest.raises(JailUnavailable, match="the jail started without seccomp filters"):
        await start()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("clone_newns: true", "clone_newns: false"),
        ("clone_newpid: true", "clone_newpid: false"),
        ('seccomp_string: "', 'seccomp_string: "nonsense '),
        ('name: "rlm-local"', 'name: "rlm-local" no_such_field: true'),
        ('src: "/dev/urandom"', 'src: "/dev/no-such-file"'),
    ],
)
async def test_what_nsjail_cannot_set_up_ends_the_run(
    start: Start, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    changed_config(monkeypatch, old, new)
    with pytest.raises(JailUnavailable):
        await start()
