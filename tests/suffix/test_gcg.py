"""The suffix search: its losses and gradient against other ways to compute them, resume, provenance."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from pipeline.config.compose import family
from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.maths.metrics import refusal_metric
from pipeline.model.chat import chat
from pipeline.model.loading import loading
from pipeline.model.passes.forward import all_logits
from pipeline.names import SEARCH_OBJECTIVES
from pipeline.results.suffix import Objective
from pipeline.suffix import files as found
from pipeline.suffix.model import gcg
from pipeline.suffix.model.regions import SUFFIX, regioned, regioned_all
from tests.conftest import INSTRUCTIONS
from tests.helpers.families import tiny
from tests.helpers.graph import Project
from tests.helpers.stop import killed

REFUSALS = torch.tensor([50, 60, 70])
# One of each: grouped queries, post-norm with a scaled embedding, learned positions, ALiBi, parallel blocks, experts.
FAMILIES = ("qwen2", "gemma2", "gpt2", "bloom", "falcon", "mixtral", "granite")


def searching(name, folder, objective):
    model = loading.load(name, tiny(name, folder), family(name), "float32", "cpu")
    target = tuple(chat.encode_plain(model.tokenizer, ["Sure"])[0]) if objective == "affirmative" else ()
    # Tokens that are likely at first, so that there is something to lower.
    likely = all_logits(model, regioned(model, INSTRUCTIONS[0]).tokens)[-1].topk(3).indices.cpu()
    return gcg.Search(model, INSTRUCTIONS[:3], gcg.Goal(objective, target, likely), 60), target


def loss_one_by_one(search, target, suffix):
    """From whole prompts without cache or padding."""
    losses = []
    for prompt in regioned_all(search.model, search.instructions, search.text(suffix)):
        if not target:
            logits = all_logits(search.model, prompt.tokens)[-1:]
            losses.append(refusal_metric(logits, search.goal.refusal_tokens)[0])
            continue
        log_p = all_logits(search.model, (*prompt.tokens, *target)).log_softmax(dim=-1)
        start = len(prompt.tokens) - 1
        losses.append(-torch.stack([log_p[start + i, token] for i, token in enumerate(target)]).mean())
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("objective", SEARCH_OBJECTIVES)
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradient_are_right_and_a_search_lowers_the_loss(name, objective, tmp_path):
    search, target = searching(name, tmp_path / "model", objective)
    rows = torch.stack([search.start(5, seed) for seed in range(3)])
    losses = search.losses(rows)
    for row, loss in zip(rows, losses.tolist(), strict=True):
        assert loss == pytest.approx(loss_one_by_one(search, target, row), abs=1e-4)
    current = rows[0]
    gradient = search.gradient(current)
    embedding: Any = search.model.hf.get_input_embeddings()
    token, place, step = int(search.allowed[7]), 2, 1e-2

    def moved(by):
        def hook(_module, _args, value):
            value = value.clone()
            value[:, place] += by * embedding.weight[token]
            return value

        handle = embedding.register_forward_hook(hook)
        try:
            return float(search.losses(current[None]))
        finally:
            handle.remove()

    difference = (moved(step) - moved(-step)) / (2 * step)
    assert float(gradient[place, token]) == pytest.approx(difference, rel=0.05, abs=2e-4)
    history, best = [float(losses[0])], current
    for seed in range(4):
        row, loss = search.step(best, 16, 20, seed)
        if loss < history[-1]:
            best = row
            history.append(loss)
    assert history[-1] < history[0]
    assert history[-1] == pytest.approx(loss_one_by_one(search, target, best), abs=1e-4)


def test_what_is_searched_reads_back_as_it_is(model):
    search = gcg.Search(model, INSTRUCTIONS[:2], gcg.Goal("refusal", (), REFUSALS), 1000)
    suffix = search.start(6, 0)
    assert not torch.equal(suffix, search.start(6, 1))
    assert torch.equal(suffix, search.start(6, 0))
    for instruction in INSTRUCTIONS[:2]:
        assert regioned(model, instruction, search.text(suffix)).of(SUFFIX) == tuple(suffix.tolist())
    space = suffix[0]
    assert not search.reads_back(torch.cat([suffix, space[None]])), "a template may strip a blank at the end"
    assert not search.reads_back(suffix[1:]), "without the space that joins them"
    special = torch.tensor(model.tokenizer.all_special_ids[-1:])
    assert not search.reads_back(torch.cat([suffix, special]))
    assert not set(search.allowed.tolist()) & set(model.tokenizer.all_special_ids)
    broken = torch.cat([suffix[1:], space[None]])
    assert search.best([broken], suffix) == (suffix, float("inf"))


def one(objective: Objective = "refusal", **changes):
    settings = found.Settings(0, 1, 2, 1, 8, 4, objective, "Sure" if objective == "affirmative" else "", "float32")
    row = found.Found("b c", [1, 2], settings, ["id"], 3, 1.0, -2.0, 0.1)
    return dataclasses.replace(row, **changes)


def test_found_suffixes_are_refused_for_another_model(tmp_path):
    path, facts = tmp_path / "found.json", {"model": "sha256:1", "tokenizer": "t", "chat_template": "c"}
    found.write_found(path, facts, [one(), one(suffix="d")])
    assert [row.suffix for row in found.read_found(path, facts)] == ["b c", "d"]
    for key in facts:
        with pytest.raises(UserError, match=f"made for {key} .*only on the model that it was found for"):
            found.read_found(path, {**facts, key: "other"})
    whole = files.read_json(path)
    more, text = ({**whole["suffixes"][0]["settings"], **change} for change in ({"x": 1}, {"seed": "0"}))
    for damaged in (
        ["b c"],
        *({**whole, "suffixes": [{**whole["suffixes"][0], "settings": row}]} for row in (more, text)),
    ):
        files.write_json(path, damaged)
        with pytest.raises(UserError, match="holds no found suffixes"):
            found.read_found(path, facts)


def test_suffixes_of_one_objective_stand_together_each_with_its_search():
    groups = found.grouped([one(), one("affirmative", suffix="d"), one(suffix="e", steps=9)])
    assert [(group.objective, group.texts) for group in groups] == [("refusal", ("b c", "e")), ("affirmative", ("d",))]
    assert [row.steps for row in groups[0].searches] == [3, 9]
    [search] = groups[1].searches
    assert (search.objective, search.target, search.n_prompts) == ("affirmative", "Sure", 1)
    assert (search.loss_before, search.loss_after, search.cpu_minutes) == (1.0, -2.0, 0.1)


def test_lists_of_suffixes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("b c  \nd\nb c\n")
    assert found.read_list(path) == ["b c", "d"]
    path.write_text("b c\n\nd\n")
    with pytest.raises(UserError, match=r"list.txt:2 is empty"):
        found.read_list(path)
    path.write_text("")
    with pytest.raises(UserError, match="is empty"):
        found.read_list(path)
    with pytest.raises(UserError, match="cannot be read"):
        found.read_list(tmp_path / "none.txt")


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    return Project.copied(finished, tmp_path_factory.mktemp("gcg"))


COMMAND = ("--model", "tiny", "--prompts", "2", "--suffix-tokens", "4", "--candidates", "8", "--starts", "2")


def test_a_killed_search_goes_on_and_ends_as_an_uninterrupted_one(project):
    command = ("pipeline", "search-suffix", *COMMAND, "--objective", "refusal", "--steps", "12")
    out = project.folder / "outputs/suffixes/tiny.json"
    assert "suffix=found suffix.sha256=" in project.module(*command).stdout
    whole = json.loads(out.read_text())
    out.unlink()
    partial = next((project.folder / "outputs/partial").glob("gcg-*.jsonl"))
    partial.unlink()
    searching = [sys.executable, "-m", *command]
    killed(searching, "*/outputs/partial/gcg-*.jsonl", 7, cwd=project.folder, stderr=subprocess.DEVNULL)
    assert not out.exists()
    done = partial.read_bytes().count(b"\n")
    project.module(*command)
    assert 3 < done < 13
    resumed = json.loads(out.read_text())
    for record in (whole, resumed):
        record["suffixes"][0].pop("cpu_minutes")
    assert resumed == whole
    assert whole["suffixes"][0]["steps"] == 12
    assert whole["suffixes"][0]["loss_after"] < whole["suffixes"][0]["loss_before"]


def test_a_second_search_is_kept_beside_the_first(project):
    project.module(
        "pipeline",
        "search-suffix",
        *COMMAND,
        "--objective",
        "affirmative",
        "--target",
        "Sure",
        "--steps",
        "1",
        "--seed",
        "4",
    )
    record = json.loads((project.folder / "outputs/suffixes/tiny.json").read_text())
    searched = {row["settings"]["seed"]: row["settings"] for row in record["suffixes"]}
    assert (searched[0]["objective"], searched[0]["target"]) == ("refusal", "")
    assert (searched[4]["objective"], searched[4]["target"]) == ("affirmative", "Sure")


def test_a_search_ends_within_its_minutes_and_not_before_its_first_step(project):
    project.module("pipeline", "search-suffix", *COMMAND, "--steps", "1000000", "--minutes", "0.3", "--seed", "7")
    project.module("pipeline", "search-suffix", *COMMAND, "--steps", "1000000", "--minutes", "0.0001", "--seed", "8")
    rows = json.loads((project.folder / "outputs/suffixes/tiny.json").read_text())["suffixes"]
    steps = {row["settings"]["seed"]: row["steps"] for row in rows}
    assert steps[8] == 1
    assert 1 < steps[7] < 1000000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "500"), "harmful train prompts are refused: use --prompts"),
        (("--candidates", "0"), "--candidates: use at least 1"),
        (("--objective", "affirmative", "--target", ""), "--target is empty"),
    ],
)
def test_a_search_that_cannot_begin_says_why(project, arguments, message):
    result = project.module("pipeline", "search-suffix", *COMMAND, *arguments, check=False)
    assert result.returncode == 1
    assert message in result.stderr.splitlines()[-1]
