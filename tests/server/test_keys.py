"""Keys and tenants: who is served, and that nobody learns of another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm_local.cli.main import main
from rlm_local.errors import ConfigError
from rlm_local.server.database import Database, claim
from rlm_local.server.desk import scope_of
from rlm_local.server.keys import Keys
from rlm_local.server.listen import read_tls
from tests.server.scripted import FINAL, LEASE, LOOK, Served, chat_body

Serve = Callable[..., Any]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def test_from_the_first_key_on_every_caller_needs_one_that_is_valid(serve: Serve) -> None:
    served: Served = await serve()
    assert (await served.client.get("/v1/models")).status_code == 200
    key, secret = served.keys.add("ada", None)
    refused = [
        await served.client.get("/v1/models", headers=headers)
        for headers in (
            {},
            bearer("rlm-wrong"),
            {"Authorization": "Bearer"},
            {"Authorization": secret},
            bearer(secret + "x"),
        )
    ]
    assert (await served.client.get("/v1/models", headers=bearer(secret))).status_code == 200
    # A name that only an open server minds, and an origin: whoever has a key may come from anywhere.
    from_afar = {**bearer(secret), "Host": "rlm.example", "Origin": "https://chat.example"}
    assert (await served.client.get("/v1/models", headers=from_afar)).status_code == 200
    served.keys.revoke(key.id)
    refused.append(await served.client.get("/v1/models", headers=bearer(secret)))
    assert {(response.status_code, response.content) for response in refused} == {(401, refused[0].content)}
    assert (await served.client.get("/health")).status_code == 200


async def test_tenants_share_neither_files_nor_what_the_engine_computed(serve: Serve) -> None:
    served: Served = await serve([LOOK, FINAL] * 2)
    secrets = [served.keys.add(name, tenant)[1] for name, tenant in (("a", "one"), ("b", "one"), ("c", "two"))]
    made = await served.client.post(
        "/v1/files", files={"file": ("a.txt", LEASE)}, data={"purpose": "user_data"}, headers=bearer(secrets[0])
    )
    file_id = made.json()["id"]
    own, shared, other = [await served.client.get(f"/v1/files/{file_id}", headers=bearer(secret)) for secret in secrets]
    assert (own.status_code, shared.status_code) == (200, 200)
    nobodys = await served.client.get("/v1/files/file-0123", headers=bearer(secrets[2]))
    assert (other.status_code, other.content) == (404, nobodys.content)
    assert (await served.client.get("/v1/files", headers=bearer(secrets[2]))).json()["data"] == []
    for secret in (secrets[0], secrets[2]):
        answer = await served.client.post("/v1/chat/completions", json=chat_body(), headers=bearer(secret))
        assert answer.status_code == 200
    assert [asked.scope for asked in served.runtime.asked] == [scope_of("one"), scope_of("two")]
    assert scope_of("one") != scope_of("two")


def test_a_key_is_shown_once_and_kept_as_a_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RLM_LOCAL_HOME", str(tmp_path))
    assert main(["keys", "list"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "there are no keys: this machine alone is served, and needs none\n")
    assert main(["keys", "add", "ada", "--tenant", "team"]) == 0
    secret = capsys.readouterr().out.strip()
    assert secret.startswith("rlm-")
    assert main(["keys", "list"]) == 0
    key_id, state, *_, tenant, name = capsys.readouterr().out.split()
    assert (state, tenant, name) == ("valid", "team", "ada")
    assert main(["keys", "revoke", key_id]) == 0
    assert main(["keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out
    assert main(["keys", "revoke", "key-none"]) == 2
    assert main(["keys", "add", "a b"]) == 2
    folder = tmp_path / "server"
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.iterdir():
        assert secret.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600


async def test_what_sums_up_all_tenants_opens_to_a_key_of_its_own_and_that_to_nothing_else(serve: Serve) -> None:
    served: Served = await serve()
    assert (await served.client.get("/metrics")).status_code == 200  # without keys there is one tenant
    tenants, watchers = served.keys.add("ada", None)[1], served.keys.add("prometheus", None, watches=True)[1]
    opened = {
        (path, who): (await served.client.get(path, headers=headers)).status_code
        for path in ("/metrics", "/metrics%0A", "/v1/models", "/v1/files/file-0", "/v1/rlm/runs", "/none", "/health")
        for who, headers in (("ada", bearer(tenants)), ("prometheus", bearer(watchers)), ("nobody", {}))
    }
    assert opened == {
        **{(path, "prometheus"): 403 for path in ("/v1/models", "/v1/files/file-0", "/v1/rlm/runs", "/none")},
        **{(path, "nobody"): 401 for path in ("/metrics", "/v1/models", "/v1/files/file-0", "/v1/rlm/runs", "/none")},
        **{("/health", who): 200 for who in ("ada", "prometheus", "nobody")},
        ("/v1/models", "ada"): 200,
        ("/v1/rlm/runs", "ada"): 200,
        ("/v1/files/file-0", "ada"): 404,
        ("/none", "ada"): 404,
        ("/metrics", "ada"): 403,
        **{("/metrics%0A", who): code for who, code in (("ada", 404), ("prometheus", 404), ("nobody", 401))},
        ("/metrics", "prometheus"): 200,
    }
    refused = await served.client.get("/metrics", headers=bearer(tenants))
    assert "rlm-local keys add NAME --metrics" in refused.json()["error"]["message"]


def test_such_a_key_is_made_and_told_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path)]
    assert main(["keys", "add", "prometheus", "--metrics", *state]) == 0
    capsys.readouterr()
    assert main(["keys", "list", *state]) == 0
    assert capsys.readouterr().out.endswith("  prometheus  prometheus  metrics only\n")
    for more in (["--tenant", "team"], ["--max-runs", "2"], ["--tokens-a-day", "9"]):
        assert main(["keys", "add", "eve", "--metrics", *more, *state]) == 2
        assert "takes no tenant and no bounds" in capsys.readouterr().err


def test_revoking_the_last_key_does_not_open_the_server(tmp_path: Path) -> None:
    keys = Keys(Database(tmp_path))
    key, secret = keys.add("ada", None)
    assert getattr(keys.of(secret), "tenant", None) == "ada"
    keys.revoke(key.id)
    assert keys.of(secret) is None
    assert keys.exist()


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    claim(tmp_path)
    with pytest.raises(ConfigError, match="another server keeps its files"):
        claim(tmp_path)


def test_records_of_another_version_are_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.write("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(Exception, match="has version 99"):
        Database(tmp_path)


def test_tls_needs_a_certificate_and_the_key_that_fits_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        make += ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=localhost", "-days", "2"]
        subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert read_tls(None, None) is None
    assert read_tls(tmp_path / "a.pem", tmp_path / "a.key") is not None
    for certificate, key in (("a.pem", "b.key"), ("a.pem", "none"), ("a.key", "a.pem")):
        with pytest.raises(ConfigError, match="cannot be used for TLS"):
            read_tls(tmp_path / certificate, tmp_path / key)
    with pytest.raises(ConfigError, match="go together"):
        read_tls(tmp_path / "a.pem", None)
