"""What is shown of suffixes, from planted numbers: each sentence says what they say; and what the file holds."""

import dataclasses
import io
import json
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from pipeline.disk import files
from pipeline.errors import UserError
from pipeline.names import SEARCH_OBJECTIVES
from pipeline.report.figures import suffix as figures
from pipeline.report.tables import suffix as tables
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import as_record
from pipeline.results.suffix import Objective, Suffix
from pipeline.results.suffix_file import read_suffix, write_suffix
from tests.helpers.suffix import PLANTED, planted


@pytest.fixture(scope="module")
def measured():
    found = planted().measured
    assert found is not None
    return found


def printed(suffix):
    console = Console(width=400, record=True, file=io.StringIO())
    for table in tables.tables(suffix):
        console.print(table)
    return " ".join(console.export_text().split())  # a caption is folded at the width of its table


def test_suffixes_of_two_objectives_stand_side_by_side_with_what_harmless_prompts_have(measured):
    columns, rows = tables.side_by_side(measured)
    assert columns[1:3] == ("harmless", "refused, no suffix")
    assert [name.removeprefix("suffix, objective: ") for name in columns[3:]] == [
        "the refusal metric itself",
        "an affirmative beginning 'Sure'",
    ]
    cells = {row[0]: row[1:] for row in rows}
    harmless, none, *suffixed = (float(cell.split()[0]) for cell in cells["refusal metric, nats"])
    assert (harmless, none) == pytest.approx((-3, 1), abs=0.1)
    assert suffixed == pytest.approx([1 - fall for fall, _ in PLANTED.values()], abs=0.1)
    below = [float(cell.split()[0]) for cell in cells["its mean lies below that of harmless prompts by, nats"][2:]]
    assert below == pytest.approx([12, 0], abs=0.1)
    returned = cells["returned by the direction's component"][2:]
    assert returned[0].startswith("45% [")
    assert returned[1].startswith("100% [")
    assert all("random ones 1% to 1%" in cell for cell in returned)
    assert all(len(row) == len(columns) for row in rows)


def test_the_tables_say_what_was_searched_for_and_what_the_numbers_do_not_show(measured):
    text = printed(planted())
    assert "the search lowered the refusal metric from 3.00 to -1.50 nats on 4 train prompts" in text
    assert "so the first row says how well it searched" in text
    assert "the search lowered cross-entropy of 'Sure' from 3.00" in text
    assert "the refusal metric was not its objective" in text
    effect = measured.analyses["refusal"].effect
    assert tables.partly(effect).startswith("the direction's component returns 45% [")
    assert tables.partly(effect).endswith("of it: the rest goes by other ways")
    assert tables.partly(measured.analyses["affirmative"].effect).endswith("all of it cannot be excluded")
    same = dataclasses.replace(effect.component.against_controls, verdict="no difference shown")
    weak = dataclasses.replace(effect, component=dataclasses.replace(effect.component, against_controls=same))
    assert tables.partly(weak) == "the direction's component returns no more of it than random directions do"
    share = dataclasses.replace(effect.component.share, value=None, low=None, high=None, note="no fall")
    none = dataclasses.replace(effect, component=dataclasses.replace(effect.component, share=share))
    assert tables.partly(none) == "no share: no fall"


def test_parts_that_do_not_add_up_are_said_so_and_so_is_a_run_without_suffixes(measured):
    assert "within 1e-06 (relative)" in printed(planted())
    one = measured.analyses["refusal"]
    broken = dataclasses.replace(one, decomposition=dataclasses.replace(one.decomposition, holds=False, sum_error=0.5))
    shown = Suffix("measured", "", dataclasses.replace(measured, analyses={"refusal": broken}))
    assert "PARTS DO NOT ADD UP: off by 5e-01" in printed(shown)
    assert printed(Suffix("not_run", "off")) == ""
    assert "3 refused harmful test prompts" in printed(Suffix("too_few", "3 refused harmful test prompts"))


def test_every_suffix_tried_is_counted(measured):
    text = printed(planted())
    assert "2 of 2 lower the refusal metric, 0 raise it; measured further: abababababab" in text


def test_each_objective_has_its_figures(measured):
    drawn = figures.figures(measured, "tiny", "stamp")
    assert len(drawn) == 8
    for name, figure in drawn.items():
        objective = name.split("_")[1]
        title: Any = figure.get_suptitle()
        assert f"objective {objective}" in title
        assert ("'Sure'" in title) == (objective == "affirmative")
    panels = {name: drawn[f"suffix_{name}_restoration"].axes[1].lines[0] for name in PLANTED}
    ends = {name: float(line.get_ydata()[-1]) for name, line in panels.items()}  # type: ignore[index]
    assert ends == pytest.approx({name: 0.75 * share * fall for name, (fall, share) in PLANTED.items()}, abs=0.3)


def test_what_is_read_is_what_was_written_and_nothing_else_is_read(tmp_path):
    path = tmp_path / "suffix.json"
    for whole in (planted(), Suffix("not_run", "off")):
        write_suffix(path, whole)
        assert read_suffix(path) == whole
    write_suffix(path, planted())
    record = files.read_json(path)
    refusal = record["measured"]["analyses"].pop("refusal")
    for wrong in (
        {**record, "version": 2},
        {**record, "more": 1},
        {**record, "measured": {**record["measured"], "analyses": {"../other": refusal}}},
        {**record, "measured": {**record["measured"], "layer": "2"}},
        {**record, "measured": {**record["measured"], "analyses": {"refusal": {**refusal, "heads": {}}}}},
        [],
    ):
        files.write_json(path, wrong)
        with pytest.raises(UserError, match=r"suffix\.json is not what this version .*run `dvc repro`"):
            read_suffix(path)


def test_the_metrics_of_a_run_hold_what_each_suffix_does():
    kind = get_type_hints(Metrics)["suffixes"]
    effects = planted().effects
    record = json.loads(json.dumps(as_record(effects)))
    assert record["refusal"]["below_harmless"]["value"] > 10
    assert TypeAdapter(kind).validate_python(record) == effects


def test_every_objective_of_a_search_has_a_place_in_the_results():
    assert get_args(Objective) == (*SEARCH_OBJECTIVES, "given")
