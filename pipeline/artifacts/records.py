"""Rows and tables of each artefact: values in, files out, and back."""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import kinds
from pipeline.artifacts.layout import Layout
from pipeline.disk import files, shape, tables, tensors
from pipeline.errors import UserError
from pipeline.maths.rejected import what_is_left
from pipeline.maths.selection import (
    FITTED_SETS,
    FOUND,
    NO_DIRECTION,
    Baselines,
    CandidateScores,
    FilterVerdict,
    Place,
    Selection,
)
from pipeline.prompts.prompt import Prompt, Text, prompt_id, text_id, words_hash

if TYPE_CHECKING:  # loading torch takes a second, and most stages read and write plain rows
    from pipeline.maths.directions import Direction


AUDIT = "audit.json"  # beside the sets that it counts


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """One set of prompts."""
    files.write_jsonl(path, [asdict(prompt) for prompt in prompts])


def read_prompts(path: Path) -> list[Prompt]:
    """One set of prompts. Raises UserError for others than the audit beside it has counted, and for another id."""
    prompts = [Prompt(**row) for row in shape.read_rows(path, Prompt)]
    _require_ids(path, {prompt.id: prompt_id(prompt.instruction) for prompt in prompts})
    audit = path.with_name(AUDIT)
    if audit.exists():
        with shape.as_written(audit):
            hashes = shape.read_record(audit, dict[str, Any])["hashes"]
            name = path.stem if path.stem in hashes else path.stem.removesuffix("_test")
            noted = hashes[name]
        if noted != words_hash(prompts):
            raise UserError(f"{path} has other prompts than {audit} says: {shape.AGAIN}")
    return prompts


def _require_ids(path: Path, expected: Mapping[str, str]) -> None:
    for number, (name, own) in enumerate(expected.items(), start=1):
        if name != own:
            raise UserError(f"{path}:{number} has id {name}, and its words have {own}: {shape.AGAIN}")


def write_texts(path: Path, texts: Iterable[Text]) -> None:
    """One set of texts."""
    files.write_jsonl(path, [asdict(text) for text in texts])


def read_texts(path: Path) -> list[Text]:
    """One set of texts. Raises UserError for an id that is not of the text."""
    texts = [Text(**row) for row in shape.read_rows(path, Text)]
    _require_ids(path, {text.id: text_id(text.instruction, text.text) for text in texts})
    return texts


def read_kept(layout: Layout, name: str) -> list[Prompt]:
    """Prompts of one of FITTED_SETS that the filter kept, in the set's order. Raises UserError for rows of others."""
    prompts, path = read_prompts(layout.prompts(name)), layout.baseline
    rows = [row for row in shape.read_rows(path, kinds.BaselineRow, ("set", "id")) if row["set"] == name]
    shape.require_order(path, [row["id"] for row in rows], [prompt.id for prompt in prompts], layout.prompts(name))
    kept = [prompt for prompt, row in zip(prompts, rows, strict=True) if row["kept"]]
    counted = read_filter_summary(layout.filter_summary)["sets"][name]["kept"]
    if len(kept) != counted:
        raise UserError(f"{path} keeps {len(kept)} prompts of {name}, {layout.filter_summary} {counted}: {shape.AGAIN}")
    return kept


def read_filter_summary(path: Path) -> kinds.FilterSummary:
    """Counts, verdict, post-instruction tokens and what measured them, as `write_filter_summary` wrote them."""
    summary: kinds.FilterSummary = shape.read_record(path, kinds.FilterSummary)
    if summary["sets"].keys() != set(FITTED_SETS):
        raise UserError(f"{path} does not count {', '.join(FITTED_SETS)}: {shape.AGAIN}")
    return summary


def read_position_tokens(path: Path) -> list[str]:
    """The post-instruction tokens as text, first position first."""
    return read_filter_summary(path)["position_tokens"]


def kept_instructions(layout: Layout, name: str) -> list[str]:
    """Instructions of one set that the filter kept, in the set's order."""
    return [prompt.instruction for prompt in read_kept(layout, name)]


def read_filter_verdict(path: Path) -> FilterVerdict:
    """The verdict of the filter."""
    row = read_filter_summary(path)
    return FilterVerdict(row["verdict"], row["reason"], row["refused"], row["n"])


def read_refusal_ids(path: Path) -> kinds.RefusalIds:
    """The refusal tokens in use and their cutoff. Raises UserError for none."""
    used: kinds.RefusalIds = shape.read_record(path, kinds.RefusalIds)
    if not used["ids"] or len(set(used["ids"])) < len(used["ids"]) or min(used["ids"]) < 0:
        raise UserError(f"{path} holds no refusal tokens, each once: {shape.AGAIN}")
    return used


PROMPT_COUNTS = ("n_harmful", "n_harmless")
SCORE_COLUMNS = tuple(field.name for field in fields(CandidateScores))


def write_baselines(path: Path, baselines: Baselines | None, n_val: Mapping[str, int]) -> None:
    """Mean refusal metric of the unchanged model on the kept val prompts; null without any."""
    files.write_json(path, {"baselines": asdict(baselines) if baselines else None, "n_val": dict(n_val)})


def read_baselines(path: Path) -> tuple[Baselines, dict[str, int]]:
    """The baselines and the number of val prompts of each class behind them."""
    record = shape.read_record(path, kinds.BaselinesRecord)
    if record["baselines"] is None:
        raise UserError(f"{path} has no baselines, and the filter left prompts: {shape.AGAIN}")
    return Baselines(**record["baselines"]), record["n_val"]


def write_scores(path: Path, scores: Iterable[CandidateScores]) -> None:
    """Candidate scores, a row per (position, layer); a zero-norm candidate has none."""
    import pandas as pd

    table = pd.DataFrame([asdict(row) for row in scores], columns=list(SCORE_COLUMNS))
    tables.write_csv(path, table.astype(dict.fromkeys(PROMPT_COUNTS, "Int64")))


def read_scores(path: Path) -> list[CandidateScores]:
    """Candidate scores as written by `write_scores`. Raises UserError for a file that it did not write."""
    import pandas as pd

    with shape.made_again():
        text = StringIO(files.read_text(path))
    with shape.as_written(path):
        table = pd.read_csv(text, keep_default_na=False, na_values={name: [""] for name in ("bypass", "induce", "kl")})
        if list(table.columns) != list(SCORE_COLUMNS):
            raise ValueError(f"columns {', '.join(map(str, table.columns))}")
        rows = [{**row, **_counts(row)} for row in table.to_dict("records")]
    shape.held(list[kinds.CandidateRow], [finite(row) for row in rows], str(path))
    if len({(row["position"], row["layer"]) for row in rows}) < len(rows):
        raise UserError(f"{path} has a candidate twice: {shape.AGAIN}")
    return [CandidateScores(**row) for row in rows]


def _counts(row: Mapping[Hashable, Any]) -> dict[str, int | None]:
    return {name: int(row[name]) if row[name] != "" else None for name in PROMPT_COUNTS}


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with null for NaN and infinity, which JSON does not have."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


def selection_record(selection: Selection) -> dict[str, Any]:
    """A selection as plain JSON values."""
    chosen = selection.chosen
    return {
        "verdict": FOUND if chosen else NO_DIRECTION,
        "rule": selection.rule,
        "thresholds": finite(asdict(selection.thresholds)),
        "chosen": asdict(chosen) if chosen else None,
        "n_candidates": len(selection.kept) + sum(map(len, selection.removed_by.values())),
        "n_kept": len(selection.kept),
        "removed": {name: len(rows) for name, rows in selection.removed_by.items()},
        "nearest_misses": [asdict(row) for row in selection.nearest],
    }


def estimator_record(selection: Selection, candidates: Iterable[CandidateScores]) -> dict[str, Any]:
    """An estimator's selection as plain JSON values, with every candidate and the one that is evaluated."""
    # Where the rule keeps nothing the nearest miss is evaluated, and every table says so.
    evaluated = selection.chosen or next(iter(selection.nearest), None)
    return {
        **selection_record(selection),
        "evaluated": asdict(evaluated) if evaluated else None,
        "candidates": [finite(asdict(row)) for row in candidates],
    }


def place_of(candidate: Mapping[str, Any] | None) -> Place | None:
    """Position and layer of a candidate's record; None of none."""
    return (candidate["position"], candidate["layer"]) if candidate else None


def write_selection(
    path: Path,
    selection: Selection,
    baselines: Baselines,
    n_val: Mapping[str, int],
    filtered: FilterVerdict,
) -> None:
    """What was chosen, by which rule, and what each filter removed; `n_val` prompts of each class scored it."""
    record = selection_record(selection)
    record |= {
        "baselines": asdict(baselines),
        "n_val": dict(n_val),
        "reason": _reason(record, what_is_left(selection, baselines)),
        "filter": asdict(filtered),
    }
    files.write_json(path, record)


def read_selection(path: Path) -> dict[str, Any]:
    """What was chosen, as `write_selection` or `write_no_selection` wrote it. Raises UserError for anything else."""
    record = shape.read_record(path, dict[str, Any])
    scored = "thresholds" in record
    shape.held(kinds.Chosen if scored else kinds.NothingToChoose, record, str(path))
    if (record["verdict"] == FOUND) != bool(record["chosen"]):
        raise UserError(f"{path} has verdict '{record['verdict']}' and another choice: {shape.AGAIN}")
    if scored and record["n_candidates"] != record["n_kept"] + sum(record["removed"].values()):
        raise UserError(f"{path} does not count each candidate once: {shape.AGAIN}")
    return record


def write_no_selection(path: Path, rule: str, filtered: FilterVerdict) -> None:
    """The verdict when the filter left nothing to choose from."""
    files.write_json(
        path,
        {
            "verdict": filtered.verdict,
            "reason": filtered.reason,
            "rule": rule,
            "chosen": None,
            "filter": asdict(filtered),
        },
    )


def _reason(record: Mapping[str, Any], left: str) -> str:
    if record["chosen"]:
        return ""
    removed = ", ".join(f"{name} {count}" for name, count in record["removed"].items() if count)
    said = f"rule {record['rule']} removes all {record['n_candidates']} candidates: {removed}"
    return f"{said}; {left}" if left else said


def write_direction(path: Path, direction: "Direction", model: str) -> None:
    """The raw direction with the layer and position it comes from."""
    metadata = {"model": model, "layer": str(direction.layer), "position": str(direction.position)}
    tensors.write_tensors(path, {"direction": direction.vector}, metadata)


def read_direction(path: Path, selection: Path, model: str) -> "Direction | None":
    """The chosen direction, or None when selection.json says that none was chosen.

    Raises UserError when the file belongs to another model.
    """
    chosen = read_selection(selection)["chosen"]
    if chosen is None:
        return None
    layer, position = chosen["layer"], chosen["position"]
    return read_saved_direction(path, model, layer=str(layer), position=str(position))


def read_saved_direction(path: Path, model: str, **expected: str) -> "Direction":
    """A direction by itself. Raises UserError for another model's, and for one that holds NaN or is zero."""
    from pipeline.maths.directions import Direction

    stored, metadata = tensors.read_tensors(path, model=model, **expected), tensors.read_metadata(path)
    tensors.require(path, list(stored) == ["direction"], "holds no direction alone")
    tensors.require_direction(path, stored["direction"])
    with shape.as_written(path):
        return Direction(stored["direction"], int(metadata["layer"]), int(metadata["position"]))
