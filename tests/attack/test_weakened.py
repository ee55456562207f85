"""The corpus can fail: each layer is weakened in a copy of the policy, and the payloads that aim at it get out."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from rlm_local.attack import attack, load_payloads
from rlm_local.attack.canaries import ENVIRONMENT
from rlm_local.jail import bundle, policy, process
from rlm_local.jail.policy import quoted

pytestmark = pytest.mark.jail

ALLOW_ALL = "\ndef program() -> bytes:\n    return struct.pack('=HBBI', _RETURN, 0, 0, _ALLOW)\n"
NO_SOCKETS = "ERRNO(13) { socket, connect, bind, listen, accept, accept4 },"
STAGE2 = "sandbox.worker.stage2"


async def breaches_of(*names: str) -> dict[str, list[str]]:
    groups = {name.split("/")[0] for name in names}
    chosen = [payload for group in groups for payload in load_payloads(group) if payload.name in names]
    assert len(chosen) == len(names)
    report = await attack(chosen)
    return {outcome.payload.name: list(outcome.breaches) for outcome in report.outcomes}


@pytest.fixture
def weaken(real_jail: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return how to change the policy: texts replaced in it, a line added, the worker's filter left open."""

    def change(*replaced: tuple[str, str], added: Callable[[], str] = str, no_stage2: bool = False) -> None:
        whole, sources = policy.config, bundle.worker_sources()

        def weaker(*arguments: object, **named: object) -> str:
            text = whole(*arguments, **named)  # type: ignore[arg-type]
            for old, new in replaced:
                assert old in text
                text = text.replace(old, new)
            return text + added()

        monkeypatch.setattr(policy, "config", weaker)
        monkeypatch.setattr(process, "require", lambda checks: None)
        if no_stage2:
            monkeypatch.setattr(bundle, "worker_sources", lambda: {**sources, STAGE2: sources[STAGE2] + ALLOW_ALL})
            monkeypatch.setattr(bundle, "worker_bundle", bundle.worker_bundle.__wrapped__)

    return change


async def test_without_the_second_filter_processes_and_code_get_out(weaken: Callable[..., None]) -> None:
    weaken(no_stage2=True)
    found = await breaches_of("processes/fork", "code/executable-later")
    assert "it printed 'PWN fork'" in found["processes/fork"]
    assert any("mprotect" in breach for breach in found["code/executable-later"])


async def test_with_sockets_in_the_hosts_network_a_connection_gets_out(weaken: Callable[..., None]) -> None:
    weaken(("clone_newnet: true", "clone_newnet: false"), (NO_SOCKETS, NO_SOCKETS.replace("ERRNO(13)", "ALLOW")))
    found = await breaches_of("network/tcp", "network/udp", "network/abstract-stream", "network/abstract-datagram")
    assert "a connection reached 127.0.0.1" in found["network/tcp"]
    assert "a datagram of 1 bytes reached the socket 'udp'" in found["network/udp"]
    assert "a connection reached an abstract socket" in found["network/abstract-stream"]
    assert all(found.values())


async def test_with_a_folder_of_the_host_its_canary_gets_out(weaken: Callable[..., None]) -> None:
    mount = '\nmount { src: "/dev/shm" dst: "/dev/shm" is_bind: true rw: false }\n'
    weaken(added=lambda: mount)
    found = await breaches_of("files/host-shared-memory")
    assert found["files/host-shared-memory"] == ["the canary of the host's shared memory came out"]


async def test_with_the_hosts_environment_its_canary_gets_out(weaken: Callable[..., None]) -> None:
    weaken(added=lambda: f"\nenvar: {quoted(f'{ENVIRONMENT}={os.environ[ENVIRONMENT]}')}\n")
    found = await breaches_of("leaks/environment", "interpreter/process-memory")
    told = ["the canary of the host's environment came out"]
    assert found == {"leaks/environment": told, "interpreter/process-memory": told}


async def test_with_shared_futexes_and_no_pause_two_jails_speak(
    weaken: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.Jail, "pause", lambda jail: None)  # a thread that is stopped waits for nothing
    weaken(("futex { (op & FUTEX_PRIVATE) != 0 },", "futex,"), ("ERRNO(11) { futex },", ""))
    found = await breaches_of("covert_kernel/futex")
    assert found["covert_kernel/futex"] == ["40 bits went from one jail to another"]


async def test_with_record_locks_two_jails_speak(weaken: Callable[..., None]) -> None:
    commands = "cmd == 0 || cmd == 1 || cmd == 2 || cmd == 3 || cmd == 4 || cmd == 1030"
    weaken((commands, f"{commands} || cmd == 5 || cmd == 6"))
    found = await breaches_of("covert_files/record-locks")
    assert found["covert_files/record-locks"] == ["40 bits went from one jail to another"]


async def test_with_every_processor_a_cell_that_counts_them_is_reported(weaken: Callable[..., None]) -> None:
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("this machine gives us one processor, so a jail cannot have two")
    weaken(("max_cpus: 1", "max_cpus: 0"))
    found = await breaches_of("time_limits/processors")
    assert any(breach.startswith("it printed 'PWN {") for breach in found["time_limits/processors"])
