"""Fitting the safety probe, and measuring its agreement with labels it was not fitted on."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from pipeline.artifacts.provenance import identity
from pipeline.config.probe import ProbeConfig
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.disk.tensors import read_tensors, write_tensors
from pipeline.judges.maths import linear_probe
from pipeline.judges.maths.agreement import agreement
from pipeline.judges.maths.linear_probe import Choice, LinearProbe, Sample
from pipeline.judges.model import probing
from pipeline.judges.probe.file import SafetyProbe
from pipeline.judges.probe.labelled import Labelled, Reference
from pipeline.judges.text import substring
from pipeline.model.loading.loading import ChatModel
from pipeline.progress import progress

PACKAGES = ("numpy", "scikit-learn", "torch", "transformers")
N_CHECKED = 24


def fit(config: Config, spec: ProbeConfig, rows: Sequence[Labelled], model: ChatModel, cache: Path) -> SafetyProbe:
    """The probe, with its nested cross-validated agreement in its record; `cache` keeps what the model has read."""
    form = spec.format.value()
    rows = [row for row in rows if not form.is_short(row.completion)]
    layers = sorted({layer for chosen in spec.layers for layer in chosen})
    prompts = probing.conversations(model, [(row.prompt, row.completion) for row in rows], form)
    x = _features(config, model, prompts, layers, cache)
    labels, groups = np.array([row.unsafe for row in rows]), np.array([row.group for row in rows])
    sample = Sample(tuple(layers), x, labels, groups)
    choices = [Choice(tuple(chosen), c) for chosen in spec.layers for c in spec.strengths]
    # One thread: how threads share a sum changes its last bits, and the file is to be the same everywhere.
    with (
        threadpool_limits(1),
        progress("cross-validation", len(choices) * (spec.n_folds + 1), "choice") as advance,
    ):

        def chosen(part: Sample) -> LinearProbe:
            return linear_probe.fit(part, linear_probe.choose(part, choices, spec.n_folds, spec.seed, advance))

        scores = linear_probe.out_of_fold(sample, chosen, spec.n_folds, spec.seed)
        best = linear_probe.choose(sample, choices, spec.n_folds, spec.seed, advance)
        probe = linear_probe.fit(sample, best)
    record = {
        "fitted_on": _data(rows, spec),
        "log_odds": _log_odds(rows, probe.scores(sample.of(best.layers)).tolist()),
        "choice": {"layers": list(best.layers), "c": best.c},
        "cross_validated": _agreements(rows, (scores > 0).tolist(), scores.tolist(), spec.seed),
        "by_source": _by_source(rows, scores.tolist(), spec.seed),
        "references": {},
        "engine": {"dtype": config.engine.dtype, "device": model.device.type},
        "packages": {name: version(name) for name in PACKAGES},
    }
    return SafetyProbe(probe, form, facts(config, model), record)


def row_id(row: Labelled) -> str:
    """First 12 hex digits of the sha256 of prompt and completion."""
    return files.content_hash([row.prompt, row.completion])[:12]


def _log_odds(rows: Sequence[Labelled], scores: Sequence[float]) -> dict[str, float]:
    """Of a few rows, so that whoever reads them again can tell that the model reads as it did."""
    return dict(sorted((row_id(row), score) for row, score in zip(rows, scores, strict=True))[:N_CHECKED])


def facts(config: Config, model: ChatModel) -> dict[str, str]:
    """What a probe must share with the model that it reads."""
    return {"model": identity(config.model.source), **model.facts()}


def _data(rows: Sequence[Labelled], spec: ProbeConfig) -> dict[str, Any]:
    counts = Counter((row.source, row.unsafe) for row in rows)
    return {
        source.name: {
            "place": source.place,
            "licence": source.licence,
            "sha256": dict(source.files),
            "safe": counts[source.name, False],
            "unsafe": counts[source.name, True],
        }
        for source in spec.sources
    }


def _features(
    config: Config, model: ChatModel, prompts: Sequence[Sequence[int]], layers: Sequence[int], cache: Path
) -> Tensor:
    """row x layer x d_model; every finished batch is kept in the cache folder."""
    engine = config.engine
    key = [facts(config, model), engine.dtype, engine.max_batch_tokens, list(layers), [list(row) for row in prompts]]
    folder = cache / "probe" / files.content_hash(key)[:16]
    kept: dict[int, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors = read_tensors(path)
        kept.update(zip(tensors["rows"].tolist(), tensors["x"], strict=True))
    most = engine.max_batch_tokens
    whole, left = (probing.left(prompts, most, rows) for rows in (set(), set(kept)))
    with progress("labelled completions", whole, done=whole - left) as bar:
        for batch, x in probing.features(model, prompts, layers, most, set(kept), bar):
            write_tensors(folder / f"{min(batch)}.safetensors", {"rows": torch.tensor(batch), "x": x}, {})
            kept.update(zip(batch, x, strict=True))
    return torch.stack([kept[row] for row in range(len(prompts))])


def measure(config: Config, probe: SafetyProbe, reference: Reference, model: ChatModel, seed: int) -> dict[str, Any]:
    """Agreement with a reference's labels, and what `substring` alone would reach."""
    texts = [(row.prompt, row.completion) for row in reference.rows]
    scores, verdicts = [0.0] * len(texts), [False] * len(texts)
    with progress("reference", 0) as bar:
        budget = config.engine.max_batch_tokens
        batches = probing.score(model, probe.linear, probe.format, texts, budget, progress=bar, expect=bar.total)
        for item in (item for batch in batches for item in batch):
            scores[item.row], verdicts[item.row] = item.score or 0.0, item.label == probing.UNSAFE
    sizes = {"sha256": reference.sha256, "skipped": reference.skipped}
    return {**sizes, **_agreements(reference.rows, verdicts, scores, seed)}


def _by_source(rows: Sequence[Labelled], scores: Sequence[float], seed: int) -> dict[str, Any]:
    """The cross-validated agreement again, over the rows of each source."""
    parts: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        parts.setdefault(row.source, []).append(index)
    return {
        name: _agreements([rows[i] for i in part], [scores[i] > 0 for i in part], [scores[i] for i in part], seed)
        for name, part in parts.items()
    }


def _agreements(
    rows: Sequence[Labelled], verdicts: Sequence[bool], scores: Sequence[float], seed: int
) -> dict[str, Any]:
    """Over all rows; over those that `substring` calls answered; and of `substring` itself, answered for unsafe."""
    labels = [row.unsafe for row in rows]
    answered = [not substring.judge(row.prompt, row.completion).refused for row in rows]
    some = [index for index, value in enumerate(answered) if value]
    found = {
        "all": agreement(labels, verdicts, scores, seed),
        "answered": agreement([labels[i] for i in some], [verdicts[i] for i in some], [scores[i] for i in some], seed),
        "substring": agreement(labels, answered, [float(value) for value in answered], seed),
    }
    return {name: part.record() if part else None for name, part in found.items()}
