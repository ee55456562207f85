"""/v1/files: what comes in is on the disk, bounded, and its tenant's alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from rlm_local.server.database import Database
from rlm_local.server.files import Files
from rlm_local.server.settings import Settings
from tests.server.scripted import FINAL, LEASE, LOOK, Served, until

Serve = Callable[..., Any]


async def upload(served: Served, data: bytes = LEASE.encode(), name: str = "lease.txt", **more: Any) -> httpx.Response:
    form = {"purpose": "user_data"} | more.pop("form", {})
    return await served.client.post("/v1/files", files={"file": (name, data)}, data=form, **more)


def kept(served: Served) -> list[Path]:
    return sorted((served.socket.parent / "state" / "files").iterdir())


async def test_a_file_is_kept_shown_read_and_deleted(serve: Serve) -> None:
    served = await serve()
    made = (await upload(served)).json()
    assert (made["object"], made["bytes"], made["filename"]) == ("file", len(LEASE), "lease.txt")
    (path,) = kept(served)
    assert (path.read_text(), path.stat().st_mode & 0o777) == (LEASE, 0o600)
    assert (await served.client.get(f"/v1/files/{made['id']}")).json() == made
    content = await served.client.get(f"/v1/files/{made['id']}/content")
    assert (content.text, content.headers["content-disposition"]) == (LEASE, "attachment")
    deleted = await served.client.delete(f"/v1/files/{made['id']}")
    assert deleted.json() == {"id": made["id"], "object": "file", "deleted": True}
    assert kept(served) == []
    for method, path_ in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert (await served.client.request(method, f"/v1/files/{made['id']}{path_}")).status_code == 404


async def test_a_file_that_is_deleted_while_it_is_read_comes_to_its_end(serve: Serve) -> None:
    served = await serve()
    data = LEASE.encode() * 40_000  # more than sockets hold
    made = (await upload(served, data)).json()
    async with served.client.stream("GET", f"/v1/files/{made['id']}/content") as content:
        assert (await served.client.delete(f"/v1/files/{made['id']}")).status_code == 200
        assert kept(served) == []
        assert content.headers["content-length"] == str(len(data))
        assert await content.aread() == data


async def test_a_reader_who_leaves_leaves_no_file_open(serve: Serve) -> None:
    served = await serve()
    made = (await upload(served, LEASE.encode() * 40_000)).json()
    (path,) = kept(served)
    for _ in range(5):
        async with served.client.stream("GET", f"/v1/files/{made['id']}/content"):
            await until(lambda: opened(path))
        await until(lambda: not opened(path))


async def test_no_more_files_are_kept_than_may_be_when_many_come_at_once(serve: Serve) -> None:
    served = await serve(max_files=2)
    all_are_there = asyncio.Barrier(6)

    async def slow() -> int:
        async def body() -> AsyncIterator[bytes]:
            yield b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nu\r\n'
            yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello'
            await all_are_there.wait()
            yield b"\r\n--B--\r\n"

        kind = {"Content-Type": "multipart/form-data; boundary=B"}
        return (await served.client.post("/v1/files", content=body(), headers=kind)).status_code

    assert sorted(await asyncio.gather(*(slow() for _ in range(6)))) == [200, 200, 409, 409, 409, 409]
    assert len(kept(served)) == len((await served.client.get("/v1/files")).json()["data"]) == 2


def opened(path: Path) -> bool:
    """Whether this process, in which the server runs, has a file open."""
    return any(fd.exists() and fd.readlink() == path for fd in Path("/proc/self/fd").iterdir())


async def test_files_are_listed_page_by_page(serve: Serve) -> None:
    served = await serve()
    ids = [(await upload(served, name=f"{number}.txt")).json()["id"] for number in range(5)]
    whole = (await served.client.get("/v1/files")).json()
    assert ({each["id"] for each in whole["data"]}, whole["has_more"]) == (set(ids), False)
    seen: list[str] = []
    page = {"has_more": True, "last_id": None}
    while page["has_more"]:
        after = {"after": page["last_id"]} if page["last_id"] else {}
        page = (await served.client.get("/v1/files", params={"limit": 2, **after})).json()
        seen += [each["id"] for each in page["data"]]
    assert seen == [each["id"] for each in whole["data"]]
    backwards = (await served.client.get("/v1/files", params={"order": "asc"})).json()
    assert [each["id"] for each in backwards["data"]] == seen[::-1]
    assert (await served.client.get("/v1/files", params={"purpose": "batch"})).json()["data"] == []
    assert (await served.client.get("/v1/files", params={"colour": "red"})).status_code == 400


async def test_a_run_reads_files_and_cites_them_by_id(serve: Serve) -> None:
    served = await serve([LOOK, FINAL])
    ids = [(await upload(served, name="lease.txt")).json()["id"] for _ in range(2)]
    parts = [{"type": "file", "file": {"file_id": each}} for each in ids]
    content = [*parts, {"type": "text", "text": "How long is the notice period?"}]
    answer = await served.chat(messages=[{"role": "user", "content": content}])
    (asked,) = served.runtime.asked
    assert [document.name for document in asked.request.documents] == ["lease.txt", "lease.txt (2)"]
    cited = answer["choices"][0]["message"]["annotations"][0]["file_citation"]
    assert cited["file_id"] == ids[["lease.txt", "lease.txt (2)"].index(cited["filename"])]


async def test_a_file_that_is_not_there_is_a_404(serve: Serve) -> None:
    served = await serve()
    content = [{"type": "file", "file": {"file_id": "file-1"}}, {"type": "text", "text": "How long?"}]
    error = (await served.chat(messages=[{"role": "user", "content": content}], status=404))["error"]
    assert error["message"] == "there is no such file"


async def test_a_name_is_kept_without_folders_and_without_what_acts_on_a_terminal(serve: Serve) -> None:
    served = await serve()
    for name, shown in (("../../etc/passwd", "passwd"), ("a\x1b[2J.txt", "a\\x1b[2J.txt"), ("C:\\x\\b.txt", "b.txt")):
        made = await upload(served, name=name)
        assert made.json()["filename"] in (shown, "a%1B[2J.txt")  # a client may quote a control character itself
    assert all(path.name.startswith("file-") for path in kept(served))


@pytest.mark.parametrize(
    ("data", "form", "status", "said"),
    [
        (b"%PDF-1.7", {}, 400, "the file is a PDF; convert it"),
        (b"", {}, 400, "the file is empty"),
        (b"x" * 5000, {}, 413, "the file is over 4096 bytes"),
        (b"x", {"purpose": ""}, 400, "no purpose"),
        (b"x", {"colour": "red"}, 400, "not served: colour"),
        (b"x", {"purpose": "p" * 5000}, 400, "purpose is over"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    serve: Serve, data: bytes, form: dict[str, str], status: int, said: str
) -> None:
    served = await serve(max_file_bytes=4096)
    refused = await upload(served, data, form=form)
    assert (refused.status_code, said in refused.json()["error"]["message"]) == (status, True), refused.text
    assert kept(served) == []


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"--x--", 415),
        ("multipart/form-data; a*0=b; a*=c", b"--x--", 415),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\ncut", 400),
        ("multipart/form-data; boundary=" + "x" * 5000, b"--x", 400),
    ],
)
async def test_a_form_that_is_none_is_refused(serve: Serve, kind: str, body: bytes, status: int) -> None:
    served = await serve()
    refused = await served.client.post("/v1/files", content=body, headers={"Content-Type": kind})
    assert refused.status_code == status, refused.text
    assert kept(served) == []


async def test_a_part_with_many_headers_is_refused_for_them(serve: Serve) -> None:
    served = await serve()
    body = b"--x\r\n" + b"".join(b"H%d: v\r\n" % number for number in range(1_000))
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    refused = await served.client.post("/v1/files", content=body, headers=kind)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["message"] == "the form cannot be read: Maximum header count exceeded"
    assert kept(served) == []


async def test_an_upload_is_on_the_disk_as_it_comes_and_gone_when_its_sender_is(serve: Serve) -> None:
    served = await serve()
    more = asyncio.Event()

    async def body() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield b"x" * 65_536
        await more.wait()

    sending = asyncio.create_task(
        served.client.post("/v1/files", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    )
    await until(lambda: kept(served) and kept(served)[0].stat().st_size > 4_000_000)
    sending.cancel()
    await until(lambda: kept(served) == [])


async def test_a_tenant_keeps_so_many_files_and_no_more(serve: Serve) -> None:
    served = await serve(max_files=1)
    assert (await upload(served)).status_code == 200
    assert (await upload(served)).json()["error"]["code"] == "too_many_files"


def test_what_an_upload_left_when_its_server_died_is_swept_and_files_stay(tmp_path: Path) -> None:
    database, settings = Database(tmp_path), Settings()
    files = Files(database, settings)
    for is_kept in (True, False):
        incoming = files.incoming("a")
        incoming.write(b"text")
        if is_kept:
            files.keep("a", incoming, "a.txt", "user_data")
            incoming.close()
        else:
            os.close(incoming._fd)
    database.close()
    again = Files(Database(tmp_path), settings)
    (file,) = again.page("a", 10, after=None, purpose=None, newest_first=True)
    assert [path.name for path in (tmp_path / "files").iterdir()] == [file.id]
