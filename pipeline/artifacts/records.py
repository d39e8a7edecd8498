"""Rows and tables of each artefact: values in, files out, and back."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import files, tables, tensors
from pipeline.artifacts.layout import Layout
from pipeline.errors import UserError
from pipeline.judges.verdict import REFUSED, UNSAFE
from pipeline.maths.labels import Label
from pipeline.maths.selection import (
    FITTED_SETS,
    FOUND,
    NO_DIRECTION,
    Baselines,
    CandidateScores,
    FilterVerdict,
    Selection,
)
from pipeline.prompts.prompt import Prompt, Text

if TYPE_CHECKING:  # loading torch takes a second, and most stages read and write plain rows
    from torch import Tensor

    from pipeline.maths.directions import Direction


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """One set of prompts."""
    files.write_jsonl(path, [asdict(prompt) for prompt in prompts])


def read_prompts(path: Path) -> list[Prompt]:
    """One set of prompts."""
    return [Prompt(**row) for row in files.read_jsonl(path)]


def write_texts(path: Path, texts: Iterable[Text]) -> None:
    """One set of texts."""
    files.write_jsonl(path, [asdict(text) for text in texts])


def read_texts(path: Path) -> list[Text]:
    """One set of texts."""
    return [Text(**row) for row in files.read_jsonl(path)]


def write_baseline(path: Path, baseline: Iterable[Mapping[str, Any]], kept: Mapping[str, list[str]]) -> None:
    """Refusal metric of every train and val prompt, and whether the filter kept it."""
    ids = {name: set(rows) for name, rows in kept.items()}
    files.write_jsonl(path, [{**row, "kept": row["id"] in ids[row["set"]]} for row in baseline])


def read_kept(path: Path) -> dict[str, set[str]]:
    """Ids that the filter kept, by set."""
    kept: dict[str, set[str]] = {name: set() for name in FITTED_SETS}
    for row in files.read_jsonl(path):
        if row["kept"]:
            kept[row["set"]].add(row["id"])
    return kept


def write_means(path: Path, means: Mapping[str, "Tensor"], model: str, positions: Sequence[int]) -> None:
    """Mean and variance of `resid_pre` per class; `model` pins the bytes of the weights they were read from."""
    metadata = {
        "model": model,
        "axes": "position layer d_model",
        "post_instruction_tokens": " ".join(map(str, positions)),
    }
    tensors.write_tensors(path, means, metadata)


def write_resid_pre(path: Path, rows: "Tensor", model: str) -> None:
    """`resid_pre` of every kept train prompt of a class, in the order of the kept prompts."""
    tensors.write_tensors(path, {"resid_pre": rows}, {"model": model, "axes": "prompt position layer d_model"})


def write_filter_summary(
    path: Path,
    verdict: FilterVerdict,
    prompts: Mapping[str, Sequence[Any]],
    kept: Mapping[str, Sequence[str]],
    position_tokens: Sequence[str],
    measured: Mapping[str, str],
) -> None:
    """Counts before and after the filter, its verdict, the post-instruction tokens, and what measured them."""
    counts = {name: {"n": len(prompts[name]), "kept": len(kept[name])} for name in FITTED_SETS}
    files.write_json(
        path, {**asdict(verdict), "sets": counts, "position_tokens": list(position_tokens), "measured": dict(measured)}
    )


def read_position_tokens(path: Path) -> list[str]:
    """The post-instruction tokens as text, first position first."""
    return files.read_json(path)["position_tokens"]


def kept_instructions(layout: Layout, name: str) -> list[str]:
    """Instructions of one set that the filter kept, in the set's order."""
    kept = read_kept(layout.baseline)[name]
    return [prompt.instruction for prompt in read_prompts(layout.prompts(name)) if prompt.id in kept]


def read_filter_verdict(path: Path) -> FilterVerdict:
    """The verdict of the filter."""
    row = files.read_json(path)
    return FilterVerdict(row["verdict"], row["reason"], row["refused"], row["n"])


PROMPT_COUNTS = ("n_harmful", "n_harmless")
SCORE_COLUMNS = tuple(field.name for field in fields(CandidateScores))


def write_baselines(path: Path, baselines: Baselines | None, n_val: Mapping[str, int]) -> None:
    """Mean refusal metric of the unchanged model on the kept val prompts; null without any."""
    files.write_json(path, {"baselines": asdict(baselines) if baselines else None, "n_val": dict(n_val)})


def read_baselines(path: Path) -> tuple[Baselines, dict[str, int]]:
    """The baselines and the number of val prompts of each class behind them."""
    record = files.read_json(path)
    return Baselines(**record["baselines"]), record["n_val"]


def write_scores(path: Path, scores: Iterable[CandidateScores]) -> None:
    """Candidate scores, a row per (position, layer); a zero-norm candidate has none."""
    import pandas as pd

    table = pd.DataFrame([asdict(row) for row in scores], columns=list(SCORE_COLUMNS))
    tables.write_csv(path, table.astype(dict.fromkeys(PROMPT_COUNTS, "Int64")))


def read_scores(path: Path) -> list[CandidateScores]:
    """Candidate scores as written by `write_scores`."""
    import pandas as pd

    rows = pd.read_csv(path, keep_default_na=False, na_values={name: [""] for name in ("bypass", "induce", "kl")})
    return [CandidateScores(**{**row, **_counts(row)}) for row in rows.to_dict("records")]


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
        "reason": _empty_reason(record),
        "filter": asdict(filtered),
    }
    files.write_json(path, record)


def chosen_candidate(record: Mapping[str, Any]) -> CandidateScores | None:
    """The chosen candidate of a selection record."""
    return CandidateScores(**record["chosen"]) if record["chosen"] else None


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


def _empty_reason(record: Mapping[str, Any]) -> str:
    if record["chosen"]:
        return ""
    removed = ", ".join(f"{name} {count}" for name, count in record["removed"].items() if count)
    return f"rule {record['rule']} removes all {record['n_candidates']} candidates: {removed}"


def write_direction(path: Path, direction: "Direction", model: str) -> None:
    """The raw direction with the layer and position it comes from."""
    metadata = {"model": model, "layer": str(direction.layer), "position": str(direction.position)}
    tensors.write_tensors(path, {"direction": direction.vector}, metadata)


def read_direction(path: Path, selection: Path, model: str) -> "Direction | None":
    """The chosen direction, or None when selection.json says that none was chosen.

    Raises UserError when the file belongs to another model.
    """
    chosen = files.read_json(selection)["chosen"]
    if chosen is None:
        return None
    from pipeline.maths.directions import Direction

    layer, position = chosen["layer"], chosen["position"]
    stored = tensors.read_tensors(path, model=model, layer=str(layer), position=str(position))
    return Direction(stored["direction"], layer, position)


def read_saved_direction(path: Path, model: str) -> "Direction":
    """A direction by itself. Raises UserError for another model's, and for one that holds NaN or is zero."""
    from pipeline.maths.directions import Direction

    vector = tensors.read_tensors(path, model=model)["direction"]
    if not (bool(vector.isfinite().all()) and bool(vector.any())):
        raise UserError(f"{path} holds no direction (NaN, infinity or zero): make it again with `dvc repro`")
    metadata = tensors.read_metadata(path)
    return Direction(vector, int(metadata["layer"]), int(metadata["position"]))


def condition_names(layout: Layout) -> list[str]:
    """Names of the conditions that were run, sorted."""
    main, further = (layout.completions(name).parent for name in ("harmful_baseline", "other_baseline"))
    names = sorted(path.stem for folder in (main, further) for path in folder.glob("*.jsonl"))
    if not names:
        raise UserError(f"{main} has no completions: run `dvc repro`")
    return names


def instructions_of(layout: Layout, condition: str) -> dict[str, str]:
    """Instruction by prompt id for one condition."""
    prompts = read_prompts(layout.prompts(Label.parse(condition).prompt_set))
    return {prompt.id: prompt.instruction for prompt in prompts}


def read_outcomes(layout: Layout, condition: str, judge: str) -> dict[str, bool | None]:
    """Whether each prompt of a condition was refused in a judge's eyes, by prompt id; None is unknown."""
    rows = files.read_jsonl(layout.judgements(condition))
    return {row["id"]: REFUSED[row["verdicts"][judge]["label"]] for row in rows}


def read_safety(layout: Layout, condition: str, judge: str) -> dict[str, bool | None]:
    """Whether each completion of a condition is safe in a judge's eyes, by prompt id; None is unknown."""
    rows = files.read_jsonl(layout.judgements(condition))
    unsafe = {row["id"]: UNSAFE[row["verdicts"][judge]["label"]] for row in rows}
    return {key: None if value is None else not value for key, value in unsafe.items()}


def read_categories(layout: Layout, prompt_set: str) -> dict[str, str]:
    """Category of each prompt of a set, by prompt id."""
    return {prompt.id: prompt.category for prompt in read_prompts(layout.prompts(prompt_set))}


def read_outcomes_by_length(layout: Layout, condition: str, judge: str) -> dict[int, dict[str, bool | None]]:
    """The same of each completion cut after a number of tokens, by that number."""
    rows = files.read_jsonl(layout.judgements(condition))
    lengths = sorted({int(length) for row in rows for length in row["by_length"]})
    return {length: {row["id"]: REFUSED[row["by_length"][str(length)][judge]] for row in rows} for length in lengths}
