"""The replay of published results: a hand-made run, the paper's own, and copies of it that are wrong."""

import copy
import json
import math
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.commands import golden as golden_command
from pipeline.entry import program as entry
from pipeline.maths.selection import FILTERS, CandidateScores
from pipeline.published import golden
from pipeline.published.maths.choice import replay_choice
from pipeline.published.maths.direction import length, replay_direction
from pipeline.published.maths.rates import replay_losses, replay_rate

NAMES = ["qwen-1_8b-chat", "gemma-2b-it", "llama-2-7b-chat-hf"]
WITH_DIRECTION = NAMES[:2]
# The paper's own list of kept candidates, best first: direction_evaluations_filtered.json of each published run.
KEPT = {
    "qwen-1_8b-chat": [
        *[(-2, 15), (-1, 15), (-2, 16), (-2, 13), (-1, 16), (-1, 13)],
        *[(-4, 15), (-4, 16), (-2, 17), (-1, 17), (-2, 18), (-1, 18)],
    ],
    "gemma-2b-it": [
        *[(-2, 10), (-1, 12), (-1, 10), (-2, 11), (-1, 11), (-4, 10), (-4, 11)],
        *[(-4, 9), (-1, 13), (-1, 8), (-1, 9), (-2, 13), (-4, 8)],
    ],
    "llama-2-7b-chat-hf": [(-1, 14), (-4, 15), (-2, 13), (-2, 14), (-4, 16)],
}
# bypass, induce, kl and what becomes of the candidate: layers 0 to 4 of position -2, then of position -1.
HAND = [
    (3.0, -1.0, 0.0, "induce"),
    (-9.0, 1.0, 0.4, "kl"),
    (-3.0, 1.0, 0.05, "larger bypass"),
    (math.nan, 1.0, math.nan, "not_finite"),
    (-9.0, 1.0, 0.05, "late_layer"),
    (3.0, -5.0, 0.0, "induce"),
    (-1.0, 1.0, 0.1, "larger bypass"),
    (-4.0, 2.0, 0.04, None),
    (-8.0, -0.25, 0.05, "induce"),
    (-9.0, -1.0, 3.0, "late_layer"),
]
SCORES = [CandidateScores(i // 5 - 2, i % 5, *row[:3]) for i, row in enumerate(HAND)]
CHOSEN = (-1, 2)


def hand_cells() -> torch.Tensor:
    cells = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cells[0, 0], cells[1, 0] = 0, 1e-17 * cells[1, 0]
    return cells


def hand_run() -> dict:
    rows = [
        {
            "position": row.position,
            "layer": row.layer,
            "refusal_score": row.bypass,
            "steering_score": row.induce,
            "kl_div_score": row.kl,
        }
        for row in SCORES
    ]

    def text(loss: float) -> dict:
        return {"pile": {"ce_loss": loss, "perplexity": math.exp(loss), "n_tokens": 10}}

    return {
        "candidates": rows,
        "selected": {"pos": -1, "layer": 2},
        "n_layer": 5,
        "loss": {"baseline": text(2.0), "ablation": text(2.25)},
        "attack_success": {
            "jailbreakbench_baseline": {"substring_matching_success_rate": 0.3, "llamaguard2_success_rate": 0.2}
        },
    }


def save(folder, runs, tensors):
    folder.mkdir(exist_ok=True)
    (folder / golden.RUNS).write_text(json.dumps(runs))
    save_file(tensors, folder / golden.DIRECTIONS)
    return folder


def hand_inputs() -> tuple[dict, dict]:
    cells = hand_cells()
    return {"hand": hand_run()}, {"hand/mean_diffs": cells, "hand/direction": cells[CHOSEN].clone()}


def published_inputs(shared) -> tuple[dict, dict]:
    folder = shared / "golden"
    return json.loads((folder / golden.RUNS).read_text()), load_file(folder / golden.DIRECTIONS)


@pytest.fixture
def command(monkeypatch):
    """Run the entry point in this process; its exit status, or its one line of error."""
    monkeypatch.setattr(entry, "quiet_libraries", lambda: None)

    def run(folder, out) -> int | str:
        monkeypatch.setattr(sys, "argv", ["golden", "--folder", str(folder), "--out", str(out)])
        with pytest.raises(SystemExit) as stopped:
            golden_command.main()
        code = stopped.value.code
        assert code is not None
        return code

    return run


# By hand


def test_every_candidate_of_the_hand_table_has_its_reason():
    found = replay_choice(SCORES, 5, CHOSEN)
    assert found.reasons == tuple(row[3] for row in HAND)
    assert sum(found.counts.values()) == len(HAND) - 1
    assert found.counts == {name: found.reasons.count(name) for name in (*FILTERS, "larger bypass")}
    assert [check.holds for check in found.checks()] == [True]


def test_margins_and_rival_of_the_hand_table():
    found = replay_choice(SCORES, 5, CHOSEN)
    assert found.winner
    assert found.runner_up
    assert (found.winner.candidate, found.runner_up.candidate) == (SCORES[7], SCORES[2])
    assert found.winner.kl == pytest.approx(0.06)
    assert (found.winner.induce, found.winner.layers, found.winner.bypass) == (2.0, 1, 0.0)
    assert found.runner_up.bypass == 1.0
    assert found.rival == SCORES[8]
    assert found.rival_shortfall == 0.25


def test_nothing_kept_is_a_choice_that_differs():
    found = replay_choice(SCORES[:2], 5, CHOSEN)
    assert found.winner is found.runner_up is found.rival is None
    assert found.reasons == ("induce", "kl")
    assert not found.checks()[0].holds


def test_a_direction_is_compared_with_every_cell():
    cells = hand_cells()
    found = replay_direction(cells, cells[CHOSEN], CHOSEN)
    assert (found.nearest, found.nearest_cosine, found.max_difference) == (CHOSEN, 1.0, 0.0)
    assert (found.exact_zeros, found.rounding) == (((-2, 0),), ((-2, 0), (-1, 0)))
    cosines = torch.cosine_similarity(cells, cells[CHOSEN].expand_as(cells), dim=-1)
    cosines[:, 0] = cosines[CHOSEN] = -1
    assert found.second == (int(cosines.argmax()) // 5 - 2, int(cosines.argmax()) % 5)
    assert found.second_cosine == pytest.approx(float(cosines.max()), abs=1e-11)
    assert found.length == pytest.approx(float(cells[CHOSEN].norm()), rel=1e-14)
    assert all(check.holds for check in found.checks())


def test_a_scaled_direction_keeps_its_cosine_and_a_turned_one_does_not():
    cells = hand_cells()
    scaled = replay_direction(cells, cells[CHOSEN] / length(cells[CHOSEN]), CHOSEN)
    assert (scaled.cosine, scaled.nearest) == (1.0, CHOSEN)
    assert [check.holds for check in scaled.checks()] == [False, True, True, True]
    turned = replay_direction(cells, cells[0, 1], CHOSEN)
    assert turned.nearest == (-2, 1)
    assert [check.holds for check in turned.checks()] == [False, False, True, False]


def test_a_score_is_one_minus_the_rate_with_wilsons_interval():
    found = replay_rate("score", 0.3)
    z, n, p = 1.959963984540054, 100, 0.7
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert (found.score.value, found.published) == (0.7, 0.7)
    assert (found.score.low, found.score.high) == pytest.approx((low, high), abs=1e-11)
    assert not replay_rate("not of 100 prompts", 0.305).checks()[0].holds


def test_loss_changes_are_from_the_baseline_of_the_same_text():
    baseline, ablation = replay_losses(hand_run()["loss"])
    assert (baseline.change, ablation.change) == (0.0, 0.25)
    assert ablation.perplexity == pytest.approx(math.exp(2.25), rel=1e-11)
    assert ablation.relative == 0.0


def test_the_hand_made_run_is_replayed_whole(tmp_path, command, capsys):
    folder, out = save(tmp_path / "in", *hand_inputs()), tmp_path / "out" / "golden.json"
    assert command(folder, out) == 0
    first = [path.read_bytes() for path in sorted(out.parent.iterdir())]
    assert command(folder, out) == 0
    assert first == [path.read_bytes() for path in sorted(out.parent.iterdir())], "equal runs, equal bytes"
    assert sorted(path.name for path in out.parent.iterdir()) == ["candidates.csv", "golden.json", "seal.json"]
    text, record = out.read_text(), json.loads(out.read_text())
    assert str(tmp_path) not in text
    assert set(record["packages"]) == {"numpy", "scipy", "statsmodels", "torch"}
    assert set(record["inputs"]) == {golden.RUNS, golden.DIRECTIONS}
    assert record["equal"]
    assert record["models"]["hand"]["losses"]["pile, ablation"]["change"] == 0.25
    assert "refusal_score [substring], jailbreakbench_baseline" in capsys.readouterr().out


# Wrong numbers


def _choice(run, tensors, name):
    run["selected"]["layer"] -= 1


def _kl(run, tensors, name):
    _winner(run)["kl_div_score"] = 0.1000001


def _no_bypass(run, tensors, name):
    _winner(run)["refusal_score"] = math.nan


def _perplexity(run, tensors, name):
    run["loss"]["ablation"]["pile"]["perplexity"] *= 1 + 2e-6


def _rate(run, tensors, name):
    run["attack_success"]["jailbreakbench_baseline"]["substring_matching_success_rate"] += 0.004


def _scaled(run, tensors, name):
    tensors[f"{name}/direction"] = tensors[f"{name}/direction"] * 1.0001


def _turned(run, tensors, name):
    tensors[f"{name}/direction"] = tensors[f"{name}/direction"].roll(1)


def _cell(run, tensors, name):
    tensors[f"{name}/mean_diffs"][run["selected"]["pos"], run["selected"]["layer"], 0] += 1e-9


def _winner(run) -> dict:
    place = (run["selected"]["pos"], run["selected"]["layer"])
    return next(row for row in run["candidates"] if (row["position"], row["layer"]) == place)


RUN_ERRORS = {
    _choice: "chosen (position, layer)",
    _kl: "chosen (position, layer)",
    _no_bypass: "chosen (position, layer)",
    _perplexity: "perplexity, pile, ablation",
    _rate: "refusal_score [substring], jailbreakbench_baseline",
}
DIRECTION_ERRORS = {
    _scaled: "max |direction - mean_diffs|",
    _turned: "cosine(direction, mean_diffs)",
    _cell: "max |direction - mean_diffs|",
}


CORRUPTED = [
    *[(name, corrupt) for name in ("hand", *NAMES) for corrupt in RUN_ERRORS],
    *[(name, corrupt) for name in ("hand", *WITH_DIRECTION) for corrupt in DIRECTION_ERRORS],
]


@pytest.mark.parametrize(("name", "corrupt"), CORRUPTED, ids=lambda x: getattr(x, "__name__", x).strip("_"))
def test_a_wrong_number_is_detected(request, tmp_path, command, capsys, name, corrupt):
    inputs = hand_inputs() if name == "hand" else published_inputs(request.getfixturevalue("shared"))
    runs, tensors = copy.deepcopy(inputs)
    corrupt(runs[name], tensors, name)
    out = tmp_path / "out" / "golden.json"
    assert command(save(tmp_path / "in", runs, tensors), out) == 1
    errors = capsys.readouterr().err.splitlines()
    what = {**RUN_ERRORS, **DIRECTION_ERRORS}[corrupt]
    assert any(line.startswith(f"error: {name}: {what} is ") for line in errors), errors
    assert all(line.startswith(f"error: {name}: ") for line in errors), "the other models are as published"
    assert not json.loads(out.read_text())["equal"], "what differs is written down"


# Missing and malformed inputs


def _set(value, *keys):
    def change(runs, tensors):
        place = runs
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


MALFORMED = {
    "no models": (lambda runs, tensors: runs.clear(), "not a table of published runs"),
    "no layers": (lambda runs, tensors: runs["hand"].pop("n_layer"), "has no 'n_layer'"),
    "layers of text": (_set("5", "hand", "n_layer"), "'5' is not a whole number"),
    "run of null": (_set(None, "hand"), "None is not a table"),
    "no candidates": (_set([], "hand", "candidates"), "a list is empty"),
    "score of text": (_set("low", "hand", "candidates", 3, "kl_div_score"), "'low' is not a number"),
    "one candidate short": (lambda runs, tensors: runs["hand"]["candidates"].pop(), "not one for every position"),
    "candidate twice": (_set(hand_run()["candidates"][0], "hand", "candidates", 9), "not one for every position"),
    "layer beyond": (_set(5, "hand", "candidates", 9, "layer"), "not one for every position"),
    "choice beyond": (_set(7, "hand", "selected", "layer"), "is not a cell"),
    "no baseline": (lambda runs, tensors: runs["hand"]["loss"].pop("baseline"), "no baseline loss of pile"),
    "other tokens": (_set(11, "hand", "loss", "ablation", "pile", "n_tokens"), "11.0 tokens"),
    "endless loss": (_set(math.inf, "hand", "loss", "ablation", "pile", "ce_loss"), "are not of any text"),
    "no perplexity": (_set(0, "hand", "loss", "ablation", "pile", "perplexity"), "are not of any text"),
    "rate above 1": (
        _set(1.5, "hand", "attack_success", "jailbreakbench_baseline", "llamaguard2_success_rate"),
        "not a rate",
    ),
    "unknown judge": (_set({"mine": 0.5}, "hand", "attack_success", "x"), "'mine' is no known rate"),
    "no direction": (lambda runs, tensors: tensors.pop("hand/direction"), "does not hold MODEL/mean_diffs"),
    "other model": (
        lambda runs, tensors: [tensors.update({key.replace("hand", "x"): tensors.pop(key)}) for key in list(tensors)],
        "'x', which has no published run",
    ),
    "other width": (lambda runs, tensors: tensors.update({"hand/direction": torch.ones(7)}), "candidates need (2, 5)"),
    "other axes": (lambda runs, tensors: tensors.update({"hand/direction": torch.ones(2, 8)}), "candidates need"),
    "no length": (
        lambda runs, tensors: tensors.update({"hand/direction": torch.zeros(8, dtype=torch.float64)}),
        "has no length",
    ),
    "not finite": (
        lambda runs, tensors: tensors.update({"hand/direction": torch.full((8,), math.nan)}),
        "not finite",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_contents_are_one_line_and_leave_nothing(tmp_path, command, case):
    change, message = MALFORMED[case]
    runs, tensors = hand_inputs()
    change(runs, tensors)
    _one_line(command(save(tmp_path / "in", runs, tensors), tmp_path / "out" / "golden.json"), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [golden.RUNS, golden.DIRECTIONS])
@pytest.mark.parametrize("damage", ["missing", "cut", "noise", "folder"])
def test_damaged_files_are_one_line_and_leave_nothing(tmp_path, command, name, damage):
    path = save(tmp_path / "in", *hand_inputs()) / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "noise":
            path.write_bytes(b"\xff\xfe not what it says")
        case "folder":
            path.mkdir()
    _one_line(command(path.parent, tmp_path / "out" / "golden.json"), str(path))
    assert not (tmp_path / "out").exists()


def test_a_bad_out_is_one_line_and_leaves_nothing(tmp_path, command):
    folder = save(tmp_path / "in", *hand_inputs())
    _one_line(command(folder, tmp_path / "out"), "must name a .json file")
    (tmp_path / "x.json").mkdir()
    _one_line(command(folder, tmp_path / "x.json"), "is a folder")
    (tmp_path / "taken").write_text("")
    _one_line(command(folder, tmp_path / "taken" / "golden.json"), "cannot write")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "taken", "x.json"]


def test_a_missing_folder_is_one_line_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "pipeline", "golden", "--folder", str(tmp_path / "nowhere")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    _one_line(result.stderr.strip(), "--folder must hold")


def _one_line(error: int | str, message: str):
    assert isinstance(error, str), f"exit status {error} and no message"
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


# The paper's own


@pytest.fixture(scope="module")
def replayed(shared, tmp_path_factory):
    """golden.json and candidates.csv of the published files."""
    out = tmp_path_factory.mktemp("golden") / "golden.json"
    command = [sys.executable, "-m", "pipeline", "golden", "--folder", str(shared / "golden"), "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text()), pd.read_csv(out.with_name("candidates.csv"), keep_default_na=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_choice_and_every_kept_candidate_are_reproduced(shared, replayed, name):
    runs, _ = published_inputs(shared)
    choice = replayed[0]["models"][name]["choice"]
    assert choice["recomputed"] == [runs[name]["selected"]["pos"], runs[name]["selected"]["layer"]]
    bypass = {(row["position"], row["layer"]): row["refusal_score"] for row in runs[name]["candidates"]}
    kept = sorted(map(tuple, choice["kept"]), key=lambda place: bypass[place])
    assert kept == KEPT[name]
    assert [choice[key]["candidate"]["layer"] for key in ("winner", "runner_up")] == [row[1] for row in kept[:2]]


@pytest.mark.parametrize("name", NAMES)
def test_every_published_candidate_has_one_reason(shared, replayed, name):
    runs, _ = published_inputs(shared)
    record, table = replayed
    rows = table[table["model"] == name].to_dict("records")
    assert len(rows) == len(runs[name]["candidates"])
    reasons = []
    for row, published in zip(rows, runs[name]["candidates"], strict=True):
        place = (row["position"], row["layer"])
        assert place == (published["position"], published["layer"])
        names = ("refusal_score", "steering_score", "kl_div_score")
        assert [float(row[ours]) for ours in ("bypass", "induce", "kl")] == pytest.approx(
            [published[theirs] for theirs in names], rel=0, abs=0, nan_ok=True
        )
        reasons.append(row["rejected_by"])
        assert row["rejected_by"] == ("" if place == KEPT[name][0] else _reason(published, runs[name]["n_layer"]))
    assert reasons.count("") == 1
    counts = record["models"][name]["choice"]["reasons"]
    assert counts == {key: reasons.count(key) for key in counts}


def _reason(row, n_layer) -> str:
    """The paper's own filter, which says no more than that a candidate is out, told apart condition by condition."""
    if any(map(math.isnan, (row["refusal_score"], row["steering_score"], row["kl_div_score"]))):
        return "not_finite"
    if row["layer"] >= int(n_layer * (1.0 - 0.20)):
        return "late_layer"
    if row["kl_div_score"] > 0.1:
        return "kl"
    return "induce" if row["steering_score"] < 0.0 else "larger bypass"


@pytest.mark.parametrize("name", WITH_DIRECTION)
def test_the_published_direction_is_the_raw_difference_in_means(shared, replayed, name):
    _, tensors = published_inputs(shared)
    found = replayed[0]["models"][name]["direction"]
    cells, direction = tensors[f"{name}/mean_diffs"], tensors[f"{name}/direction"]
    assert found["max_difference"] == 0
    assert found["nearest"] == found["published"] == list(KEPT[name][0])
    assert found["length"] == pytest.approx(float(torch.linalg.vector_norm(direction)), rel=1e-12)
    assert found["length"] > 2, "raw, not of unit length"
    assert found["exact_zeros"] == []
    assert found["rounding"] == [[position, 0] for position in range(-len(cells), 0)], "constant template tokens"


def test_published_rates_and_losses_hold(shared, replayed):
    runs, _ = published_inputs(shared)
    record, _ = replayed
    assert record["equal"]
    for name in NAMES:
        found = record["models"][name]
        rate = runs[name]["attack_success"]["jailbreakbench_ablation"]["substring_matching_success_rate"]
        score = found["scores"]["refusal_score [substring], jailbreakbench_ablation"]
        assert score["value"] == pytest.approx(1 - rate)
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] == 100
        loss = {key: runs[name]["loss"][key]["pile"]["ce_loss"] for key in ("baseline", "ablation")}
        assert found["losses"]["pile, ablation"]["change"] == loss["ablation"] - loss["baseline"]
