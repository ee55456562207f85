"""What `rlm-local serve` refuses before anything is loaded: one sentence, and an exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rlm_local.cli.main import main
from rlm_local.errors import ConfigError
from rlm_local.server.listen import is_loopback, listen_tcp, listen_unix


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (["--model", "gpt-4o"], 2, "no model is named 'gpt-4o'"),
        (["--model", "smollm2-135m"], 1, "is not pulled"),  # as every command: nothing was asked for wrongly
        (["--host", "0.0.0.0"], 2, "without keys and TLS only loopback is served"),
        (["--max-runs", "0"], 2, "error: --max-runs is 0"),
        (["--max-queue", "-1"], 2, "error: --max-queue is -1"),
        (["--drain-seconds", "nan"], 2, "error: --drain-seconds is nan"),
        (
            ["--uds", "s.sock", "--host", "0.0.0.0"],
            2,
            "--uds listens on a socket of this machine alone, so --host is not",
        ),
        (["--uds", "s.sock", "--port", "9"], 2, "so --port is not heeded"),
        (["--engine-url", "http://a:1", "--kv-tokens", "7"], 2, "which heeds no --kv-tokens"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_sentence(
    options: list[str],
    exit_code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RLM_LOCAL_HOME", str(tmp_path))
    assert main(["serve", *options]) == exit_code
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err.split("\n")[0]


def test_a_port_that_is_taken_is_named() -> None:
    with listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken by another program"):
            listen_tcp("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("192.0.2.1", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_is_not_ours_is_named(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=f"{host}|70000"):
        listen_tcp(host, port)


def test_a_socket_is_ours_alone_and_one_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen_unix(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigError, match="is there already"):
            listen_unix(path)
    listen_unix(path).close()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is there already"):
        listen_unix(tmp_path / "file")


@pytest.mark.parametrize(
    ("host", "is_ours"), [("127.0.0.2", True), ("::1", True), ("LOCALHOST", True), ("0.0.0.0", False), ("::", False)]
)
def test_only_loopback_is_loopback(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
    assert socket.has_ipv6 or host != "::1"
