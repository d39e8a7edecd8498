"""The same bytes, or one line, whatever a process finds around it: locale, folder, streams, home, umask, Python."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.entry import surroundings
from pipeline.errors import UserError
from tests.conftest import ROOT
from tests.helpers.cases import fails, one_line
from tests.helpers.graph import Project

FEW_LETTERS = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
STAGE = ("pipeline.stages", "--model", "tiny", "--run", "smoke")


def started(folder, *command, without=(), **changed):
    """A command in a folder, in an environment that is changed; its output as bytes."""
    kept = {name: value for name, value in os.environ.items() if name not in (*without, "PYTHONPATH")}
    return subprocess.run(command, cwd=folder, env={**kept, **changed}, capture_output=True, stdin=subprocess.DEVNULL)


def stage(folder, name, without=(), **changed):
    """A stage of the tiny model's run, its output as text."""
    module, *run = STAGE
    done = started(folder, sys.executable, "-m", module, name, *run, without=without, **changed)
    text = (done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    return subprocess.CompletedProcess(done.args, done.returncode, *text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Project:
    """A project whose name has blanks and letters of its own, run as far as its activations."""
    project = Project(tmp_path_factory.mktemp("plain") / "Größe mit Leerzeichen")
    project.repro("activations@tiny-smoke")
    return project


def test_few_letters_another_zone_no_home_and_a_strict_umask_change_no_byte(plain, tmp_path):
    other = Project(tmp_path / "two words")
    surroundings = {**FEW_LETTERS, "TZ": "Pacific/Kiritimati", "HOME": str(tmp_path / "no" / "home")}
    surroundings |= {"TMPDIR": str(tmp_path / "nowhere"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = f'umask 077; exec "{sys.executable}" -m dvc repro activations@tiny-smoke'
    done = started(other.folder, "bash", "-c", command, **surroundings)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    assert other.outs() == plain.outs()


def test_a_folder_of_letters_that_the_locale_lacks_is_one_line_and_make_repro_runs_in_it(plain):
    error = fails(
        stage(plain.folder, "compose", **FEW_LETTERS), "is not in the encoding of files, ascii: set PYTHONUTF8"
    )
    assert error.isascii()
    before = plain.outs()
    done = started(plain.folder, sys.executable, "-m", "pipeline", "repro", "--force", "compose", **FEW_LETTERS)
    assert done.returncode == 0, done.stderr
    assert plain.outs() == before


def test_standard_streams_that_are_closed_are_no_files_of_ours(plain):
    before = plain.outs()
    command = f'exec "{sys.executable}" -m pipeline.stages refusal_tokens --model tiny --run smoke <&- >&- 2>&-'
    done = started(plain.folder, "bash", "-c", command)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert plain.outs() == before


def test_letters_that_standard_output_lacks_are_shown_as_escapes():
    code = r"from pipeline.entry.surroundings import settle; settle(); print('ein Gr\u00f6\u00dfenvergleich \u2016')"
    done = started(ROOT, sys.executable, "-c", code, **{**FEW_LETTERS, "PYTHONIOENCODING": "ascii"})
    assert done.stdout == rb"ein Gr\xf6\xdfenvergleich \u2016" + b"\n", done.stderr


@pytest.mark.parametrize("where", ["a file", "/proc/nothing"])
def test_a_cache_that_cannot_be_written_is_one_line(plain, tmp_path, where):
    (tmp_path / "a file").touch()
    home = str(tmp_path / where)
    fails(stage(plain.folder, "engine", without=["XDG_CACHE_HOME"], HOME=home), f"cannot write {home}.*writable")


def test_outputs_that_cannot_be_written_are_one_line_and_stay_as_they_are(plain):
    before = plain.outs()
    module, *run = STAGE
    mounted = f'mount --bind outputs outputs && mount -o remount,ro,bind outputs && exec "$0" -m {module} prompts "$@"'
    done = started(plain.folder, "unshare", "-rm", "bash", "-c", mounted, sys.executable, *run)
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip("nothing may be mounted here")
    assert done.returncode == 1
    one_line(done.stderr.decode(), "cannot write outputs/.*Read-only file system.*make its folder writable")
    assert plain.outs() == before


@pytest.mark.parametrize(
    "words", [["pipeline"], ["pipeline.stages"], ["pipeline", "code"], ["pipeline", "repro"], ["pipeline", "select"]]
)
def test_a_python_without_the_libraries_is_one_line_whatever_is_started(words):
    done = started(ROOT, sys.executable, "-S", "-m", *words)
    error = one_line(
        done.stderr.decode(), "lacks dvc, .*torch.*: run `make setup` once and `source .venv/bin/activate`"
    )
    assert (done.returncode, done.stderr.decode().strip()) == (1, error)
    assert sys.executable in error


def test_a_python_that_is_too_old_is_one_line():
    code = "import sys; sys.version_info = (3, 9, 1); import pipeline"
    one_line(started(ROOT, sys.executable, "-c", code).stderr.decode(), r"lacks Python 3\.11: run `make setup`")


def test_what_an_old_python_reads_first_has_nothing_new_in_it():
    tree = ast.parse((ROOT / "pipeline/__init__.py").read_text(encoding="utf-8"))
    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns]


def test_a_folder_name_that_is_no_utf8_is_refused(tmp_path, monkeypatch):
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    with pytest.raises(UserError, match="rename it"):
        surroundings.settle()


def without_encoding(tree: ast.AST) -> list[int]:
    """Lines that open a text, or start a program whose output is text, in whatever encoding the locale has."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        named = {keyword.arg for keyword in call.keywords}
        texts = {one.arg for one in call.keywords if isinstance(one.value, ast.Constant)}
        words = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        as_text = not any("b" in word for word in words) and (not method or not call.args or bool(words))
        opens = name in ("open", "fdopen") and as_text and "os.O_" not in ast.unparse(call)
        whole = name == "write_text" or (name == "read_text" and not call.args)  # ours has the path
        if "encoding" not in named and (opens or whole or texts & {"text", "universal_newlines"}):
            found.append(call.lineno)
    return found


def test_every_text_is_opened_in_an_encoding_that_is_named():
    for line in ("open(a)", "a.open('w')", "a.open()", "p.read_text()", "p.write_text(a)", "run(a, text=True)"):
        assert without_encoding(ast.parse(line)), line
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        assert not without_encoding(ast.parse(path.read_bytes())), path
