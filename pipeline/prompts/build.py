"""From files to six disjoint sets, and an audit of them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.data import DataConfig, FileSpec, PoolSpec, SplitSizes
from pipeline.errors import UserError
from pipeline.prompts.load import load
from pipeline.prompts.prompt import Prompt, words_hash
from pipeline.prompts.similar import Similarity, surface_auroc

Open = Callable[[FileSpec], Path]
# Evaluation first: it is never thinned for the sake of train.
PARTS = ("test", "val", "train")


@dataclass(frozen=True)
class PromptSets:
    """Disjoint sets of prompts by name, such as `harmful_train`."""

    sets: dict[str, tuple[Prompt, ...]]


def build(
    config: DataConfig, sizes: dict[str, SplitSizes], seed: int, open_file: Open
) -> tuple[PromptSets, dict[str, Any]]:
    """The six sets and their audit. The same configuration and seed give the same sets.

    Raises UserError when a file cannot be used or a pool has fewer prompts than asked for.
    """
    pools = {
        f"{kind}_{part}": _pool(getattr(spec, part), open_file)
        for kind, spec in (("harmful", config.harmful), ("harmless", config.harmless))
        for part in PARTS
    }
    similarity = Similarity([prompt for pool in pools.values() for prompt in pool])
    dropped: Counter[str] = Counter()
    sets: dict[str, tuple[Prompt, ...]] = {}
    for kind, spec in (("harmful", config.harmful), ("harmless", config.harmless)):
        sets |= _split(kind, spec, pools, sizes[kind], seed, config, similarity, dropped)
    return PromptSets(sets), _audit(config, sets, pools, dropped, similarity, seed)


def further(
    config: DataConfig, seed: int, open_file: Open, fitted: Mapping[str, Sequence[Prompt]]
) -> tuple[dict[str, tuple[Prompt, ...]], dict[str, Any]]:
    """The further evaluation sets, each in a drawn order, and their audit.

    `fitted`: the six sets. Near-duplicates among them are reported, not removed: contrast prompts are alike on
    purpose, and a set is to stay the one that others measure on.
    """
    sets = {}
    for name, spec in config.sets.items():
        unique = list({prompt.id: prompt for prompt in _pool(spec.files, open_file)}.values())
        sets[name] = _draw(f"{name}_test", unique, len(unique), seed)
    overlaps = _overlaps(sets, fitted, config.near_duplicate) if sets else {}
    return sets, {
        "near_duplicate": config.near_duplicate,
        "overlaps": {name: pairs for name, pairs in overlaps.items() if pairs},
        "counts": {name: dict(sorted(Counter(p.source for p in rows).items())) for name, rows in sets.items()},
        "kinds": {name: config.sets[name].kind for name in sets},
        "licences": dict(sorted({p.source: p.licence for rows in sets.values() for p in rows}.items())),
        "hashes": {name: words_hash(rows) for name, rows in sets.items()},
    }


def _overlaps(
    sets: Mapping[str, Sequence[Prompt]], fitted: Mapping[str, Sequence[Prompt]], threshold: float
) -> dict[str, list[dict[str, Any]]]:
    similarity = Similarity([prompt for rows in (*sets.values(), *fitted.values()) for prompt in rows])
    return {
        f"{name} {other}": [
            {"ids": [rows[p.first].id, fitted[other][p.second].id], "similarity": p.similarity}
            for p in similarity.pairs(rows, fitted[other], threshold)
        ]
        for name, rows in sets.items()
        for other in fitted
    }


def _pool(files: Sequence[FileSpec], open_file: Open) -> list[Prompt]:
    return [prompt for spec in files for prompt in load(spec, open_file(spec))]


def _split(
    kind: str,
    spec: PoolSpec,
    pools: dict[str, list[Prompt]],
    sizes: SplitSizes,
    seed: int,
    config: DataConfig,
    similarity: Similarity,
    dropped: Counter[str],
) -> dict[str, tuple[Prompt, ...]]:
    """Draw test, val and train in turn; what is taken, and what is like it, is not drawn again.

    `dropped` counts, per pool, the rows that repeat another row or one of a set drawn before.
    """
    taken: list[Prompt] = []
    sets = {}
    for part in PARTS:
        own = bool(getattr(spec, part))
        clean = _without_repeats(pools[f"{kind}_{part if own else 'train'}"], taken, config, similarity)
        if own:
            dropped[f"{kind}_{part}"] = len(pools[f"{kind}_{part}"]) - len(clean)
        sets[f"{kind}_{part}"] = _draw(f"{kind}_{part}", clean, getattr(sizes, part), seed)
        # A set of files of its own keeps all its prompts out of the later sets, drawn or not.
        taken += clean if own and part != "train" else sets[f"{kind}_{part}"]
    return sets


def _without_repeats(
    pool: Sequence[Prompt],
    taken: Sequence[Prompt],
    config: DataConfig,
    similarity: Similarity,
) -> list[Prompt]:
    seen = {prompt.id for prompt in taken}
    unique: dict[str, Prompt] = {}
    for prompt in pool:
        if prompt.id not in seen:
            unique.setdefault(prompt.id, prompt)
    prompts = list(unique.values())
    if not config.drop_near_duplicates:
        return prompts
    kept = [prompts[index] for index in similarity.distinct(prompts, config.near_duplicate)]
    near = {pair.first for pair in similarity.pairs(kept, taken, config.near_duplicate)} if taken and kept else set()
    return [prompt for index, prompt in enumerate(kept) if index not in near]


def _draw(name: str, pool: Sequence[Prompt], size: int, seed: int) -> tuple[Prompt, ...]:
    if len(pool) < size:
        kind, part = name.split("_")
        raise UserError(
            f"{name}: {size} prompts asked for, {len(pool)} left after removing duplicates: "
            f"lower sizes.{kind}.{part} or add prompts"
        )
    # Each set has a generator of its own: the size of one does not change the draw of another.
    salt = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    order = np.random.default_rng([seed, salt]).permutation(len(pool))
    return tuple(pool[index] for index in order[:size])


def _audit(
    config: DataConfig,
    sets: dict[str, tuple[Prompt, ...]],
    pools: dict[str, list[Prompt]],
    dropped: Counter[str],
    similarity: Similarity,
    seed: int,
) -> dict[str, Any]:
    """Duplicates across sets by id (never by text), counts, licences, hashes, surface form."""
    overlaps = {}
    for first, second in combinations(sorted(sets), 2):
        ids = {prompt.id for prompt in sets[first]} & {prompt.id for prompt in sets[second]}
        pairs = similarity.pairs(sets[first], sets[second], config.near_duplicate)
        overlaps[f"{first} {second}"] = {
            "exact": sorted(ids),
            "near": [
                {"ids": [sets[first][p.first].id, sets[second][p.second].id], "similarity": p.similarity} for p in pairs
            ],
        }
    return {
        "preset": config.name,
        "near_duplicate": config.near_duplicate,
        "overlaps": overlaps,
        "not_drawn_as_repeats": dict(sorted(dropped.items())),
        "pools": {name: len(pool) for name, pool in pools.items()},
        "counts": {name: dict(sorted(Counter(p.source for p in rows).items())) for name, rows in sets.items()},
        "licences": dict(sorted({p.source: p.licence for rows in sets.values() for p in rows}.items())),
        "hashes": {name: words_hash(rows) for name, rows in sets.items()},
        "surface_auroc": {
            part: surface_auroc(sets[f"harmful_{part}"], sets[f"harmless_{part}"], seed) for part in PARTS
        },
    }
