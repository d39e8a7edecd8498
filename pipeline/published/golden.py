"""golden: the paper's published results computed again, and whether each number is the published one."""

import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipeline.artifacts.seal import write_seal
from pipeline.disk import files
from pipeline.display import plain
from pipeline.errors import UserError
from pipeline.published.files import DIRECTIONS, RUNS, input_file, read_directions, read_runs

if TYPE_CHECKING:
    from pipeline.published.tables import Replayed

OUT = Path("outputs/golden/golden.json")
CANDIDATES = "candidates.csv"
PACKAGES = ("numpy", "scipy", "statsmodels", "torch")


def record(results: "list[Replayed]", inputs: list[Path]) -> dict[str, Any]:
    """What golden.json holds: nothing that depends on the time or the machine."""
    return {
        "inputs": {path.name: files.file_hash(path) for path in inputs},
        "packages": {name: version(name) for name in PACKAGES},
        "verdict": "replayed",
        "equal": all(check.holds for result in results for check in result.checks()),
        "models": {result.published.name: _model_record(result) for result in results},
    }


def _model_record(result: "Replayed") -> dict[str, Any]:
    from pipeline.published.maths.choice import place

    choice = result.choice
    return {
        "choice": {
            "published": choice.published,
            "recomputed": place(choice.selection.chosen),
            "bounds": {key: getattr(choice.selection.thresholds, key) for key in ("kl", "induce", "max_layer")},
            "candidates": len(choice.reasons),
            "kept": [place(candidate) for candidate in choice.selection.kept],
            "reasons": choice.counts,
            "winner": asdict(choice.winner) if choice.winner else None,
            "runner_up": asdict(choice.runner_up) if choice.runner_up else None,
            "rival": asdict(choice.rival) if choice.rival else None,
            "rival_shortfall": choice.rival_shortfall,
        },
        "direction": asdict(result.direction) if result.direction else None,
        "scores": {rate.name: asdict(rate.score) for rate in result.rates},
        "losses": {loss.name: {"ce_loss": loss.ce_loss, "change": loss.change} for loss in result.losses},
        "checks": [{**asdict(check), "holds": check.holds} for check in result.checks()],
    }


def write(results: "list[Replayed]", inputs: list[Path], out: Path) -> None:
    """golden.json and candidates.csv beside it: neither takes its name before the other is whole."""
    from pipeline.published.tables import candidates

    if out.suffix != ".json":
        raise UserError(f"--out {out} must name a .json file")
    if folder := next((path for path in (out, out.with_name(CANDIDATES)) if path.is_dir()), None):
        raise UserError(f"{folder} is a folder: name another --out")
    with files.replacing(out.with_name(CANDIDATES)) as temporary:
        candidates(results).to_csv(temporary, index=False, lineterminator="\n")
        files.write_json(out, record(results, inputs))
    _seal(out)


def write_nothing(folder: Path, out: Path) -> None:
    """The verdict where the published results are not at hand, and no candidates."""
    reason = f"the published results are not in {folder}: `make golden FOLDER=...` replays them from elsewhere"
    with files.replacing(out.with_name(CANDIDATES)) as temporary:
        temporary.write_text("model,position,layer,bypass,induce,kl,rejected_by\n", encoding="utf-8")
        files.write_json(out, {"verdict": "not_replayed", "reason": reason})
    _seal(out)
    print(plain(f"golden: not replayed, {reason}"))


def _seal(out: Path) -> None:
    write_seal(out.with_name("seal.json"), [out, out.with_name(CANDIDATES)])


def golden(folder: Path, out: Path = OUT, if_there: bool = False) -> int:
    """Read, replay, print, write; the number of checks that failed, each of them printed."""
    if if_there and not folder.exists():
        write_nothing(folder, out)
        return 0
    from pipeline.published.tables import checks_table, choices_table, replayed, shown

    inputs = [input_file(folder, name) for name in (RUNS, DIRECTIONS)]
    runs = read_runs(inputs[0])
    pairs = read_directions(inputs[1], runs)
    results = [replayed(published, pairs.get(published.name)) for published in runs]
    write(results, inputs, out)
    # Wide enough for the widest row, also when the output is a file or a log.
    for table in (checks_table(results), choices_table(results)):
        Console(width=170, highlight=False).print(table)
    failed = [(result, check) for result in results for check in result.checks() if not check.holds]
    for result, check in failed:
        what = f"{result.published.name}: {check.what} is {shown(check.recomputed)}"
        print(plain(f"error: {what}, published {shown(check.published)}"), file=sys.stderr)
    return len(failed)
