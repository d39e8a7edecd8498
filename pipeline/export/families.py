"""Every family file on a random tiny model: is each measured and edited as exactly as it says?"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from pipeline.config.compose import family
from pipeline.config.family import Family
from pipeline.config.place import CONF
from pipeline.disk.files import replacing
from pipeline.display import plain
from pipeline.export.model.exactness import Exactness, measure
from pipeline.model.loading.random_model import write_random_model

TABLE = Path("outputs/families/families.csv")
# Logits of order ten after a few float32 blocks: equal computations differ by about 1e-5.
ROUNDING = 2e-4


def names() -> list[str]:
    """Families that have a tiny model: all but those refused by name."""
    families = sorted(path.stem for path in (CONF / "family").glob("*.yaml"))
    return [name for name in families if not family(name).remote_code]


def measured(name: str) -> tuple[Family, Exactness]:
    """A family and its exactness on a random tiny model, seeded."""
    described = family(name)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        write_random_model(folder, described.tiny["model_type"], 0, described.tiny["options"])
        return described, measure(described, folder)


def failures(described: Family, found: Exactness) -> list[str]:
    """What is not as exact as the family file says; nothing when all is."""
    tests = {
        "activations differ from hidden states": found.activations == 0,
        "a writer was not edited": found.n_edited == found.n_writers > 0,
        "the streamed export differs from the in-memory one": found.equal_tensors == found.n_tensors > 0,
        "the direction is still written": max(found.equivalence.max_cosine_after) < 1e-5,
        "the direction was not there before": max(found.equivalence.max_cosine_before) > 0.01,
        "addition at layer 0 differs from the live one": found.addition_at_0 <= ROUNDING,
        "addition differs from the live one": math.isnan(found.addition) or found.addition <= ROUNDING,
        "the export differs from live ablation": not described.exact or _is_equal(found),
    }
    return [failure for failure, holds in tests.items() if not holds]


def _is_equal(found: Exactness) -> bool:
    equivalence = found.equivalence
    return equivalence.logit_difference_max <= ROUNDING and equivalence.greedy_different == 0


def row(name: str, described: Family, found: Exactness) -> dict[str, object]:
    """One line of the table."""
    same = found.equivalence
    return {
        "family": plain(name),
        "model_types": plain(" ".join(described.model_types)),
        "equal to ablation": "exact" if described.exact else "up to a factor per write",
        "activations - HF": found.activations,
        "resid + writes error": found.residual_error,
        "export - ablation, logits": same.logit_difference_max,
        "ablation - baseline, logits": same.effect_max,
        "greedy equal": f"{same.greedy_equal + same.greedy_ties}/{same.n_prompts}",
        "abs(cos) before": max(same.max_cosine_before),
        "abs(cos) after": max(same.max_cosine_after),
        "addition as weights, layer 0": found.addition_at_0,
        "addition as weights, layer 2": "no parameter" if found.addition_why else f"{found.addition:.1e}",
        "streamed = in memory, tensors": f"{found.equal_tensors}/{found.n_tensors}",
        "writers edited": f"{found.n_edited}/{found.n_writers}",
    }


def check(chosen: Sequence[str]) -> int:
    """Measure, print and write the table; the number of families that fail."""
    rows, failed = [], 0
    for name in chosen:
        described, found = measured(name)
        rows.append(row(name, described, found))
        for failure in failures(described, found):
            failed += 1
            print(plain(f"error: family '{name}': {failure}"), file=sys.stderr)
    table = pd.DataFrame(rows)
    for column in table.select_dtypes("number"):
        table[column] = table[column].map("{:.1e}".format)
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(table.set_index("family").T.to_string() if len(rows) == 1 else table.to_string(index=False))
    with replacing(TABLE) as path:
        table.to_csv(path, index=False)
    return failed
