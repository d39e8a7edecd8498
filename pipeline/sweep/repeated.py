"""What the runs of several seeds and draws say together."""

# pyright: reportUnknownMemberType=false
# Pandas' own annotations leave parts open.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import class_means, records
from pipeline.artifacts.layout import Layout
from pipeline.maths import repeated as maths
from pipeline.maths.labels import BASELINE, Label
from pipeline.maths.statistics import rate
from pipeline.results.metrics import Metrics
from pipeline.results.metrics_file import read_metrics
from pipeline.results.repeated import Cosine, Origin, Over, Repeat, Repeated, Together

if TYPE_CHECKING:  # imported where a table is made
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    from pipeline.maths.directions import Direction

Runs = Mapping[Label, Sequence[maths.Values]]  # the runs that have a condition


@dataclass(frozen=True)
class Ran:
    """A run that has ended."""

    overrides: Sequence[str]
    layout: Layout
    metrics: Metrics

    @classmethod
    def of(cls, overrides: Sequence[str], layout: Layout) -> "Ran":
        """With the metrics that it wrote."""
        return cls(overrides, layout, read_metrics(layout.metrics))

    def values(self) -> dict[Label, dict[str, float]]:
        """1 for each prompt that is refused, 0 for one that is answered, by main condition."""
        return {
            label: {name: float(value) for name, value in rows.items() if value is not None}
            for label, rows in self.metrics.outcomes.items()
            if label.is_main
        }


def together(seeds: Sequence[Ran], draws: Sequence[Ran], code: Mapping[str, str], config: str) -> Repeated:
    """Of runs of one model: of each seed with greedy answers, and of draws under the first seed.

    `code`: hash by stage; `config`: hash of the first run's configuration.
    """
    first, sampled = seeds[0].metrics, _by_condition([run.values() for run in draws])
    cosines, width = _cosines(seeds)
    return Repeated(
        model=first.model,
        title=first.title,
        profile=seeds[0].layout.run,
        judge=first.judge,
        max_new_tokens=first.max_new_tokens,
        runs=[_repeat(run) for run in (*seeds, *draws)],
        seeds=over([run.values() for run in seeds], between=True),
        cosines=cosines,
        chance_cosine=maths.chance_cosine(width) if cosines else None,
        draws=over([run.values() for run in draws], between=False),
        against_greedy={
            label: maths.clustered_mean(maths.differences(runs, before))
            for label, before in seeds[0].values().items()
            if (runs := sampled.get(label))
        },
        refused_draws={label: maths.prompt_means(runs) for label, runs in sampled.items()},
        origin=Origin(first.provenance.model, dict(code), config, first.provenance.packages),
    )


def _repeat(run: Ran) -> Repeat:
    metrics, chosen = run.metrics, run.metrics.selection.chosen
    return Repeat(
        overrides=list(run.overrides),
        seed=metrics.provenance.seed,
        answers=metrics.answers,
        verdict=metrics.verdict,
        position=chosen.position if chosen else None,
        layer=chosen.layer if chosen else None,
        refusal_score={
            label: rate([bool(value) for value in rows.values()]) for label, rows in run.values().items() if rows
        },
        config=metrics.provenance.config,
    )


def _by_condition(runs: Sequence[Mapping[Label, maths.Values]]) -> Runs:
    labels = list(dict.fromkeys(label for run in runs for label in run))
    return {label: [run[label] for run in runs if run.get(label)] for label in labels}


def over(runs: Sequence[Mapping[Label, maths.Values]], between: bool) -> Over:
    """Each main condition over the runs that have it; `between`: whether what lies between runs is asked for."""
    changes = [
        {
            label: maths.differences([rows], run[label.baseline])[0]
            for label, rows in run.items()
            if label.effect != BASELINE
        }
        for run in runs
    ]
    return Over(
        {label: _together(found, between, True) for label, found in _by_condition(runs).items() if found},
        {label: _together(found, between, False) for label, found in _by_condition(changes).items() if found},
    )


def _together(runs: Sequence[maths.Values], between: bool, is_rate: bool) -> Together:
    return Together(
        value=maths.clustered_rate(runs) if is_rate else maths.clustered_mean(runs),
        n_answers=sum(map(len, runs)),
        spread=maths.spread(runs),
        between=maths.between(runs) if between else None,
    )


def _cosines(runs: Sequence[Ran]) -> tuple[list[Cosine], int]:
    """Of each two runs that have a direction, and the width of the residual stream."""
    from pipeline.maths.stability import cosine

    found = [(run, direction) for run in runs if (direction := _direction(run)) is not None]
    rows: list[Cosine] = []
    for (first, a), (second, b) in combinations(found, 2):
        places = [tuple(_at(run, place) for run in (first, second)) for place in (a, b)]
        seeds = [run.metrics.provenance.seed for run in (first, second)]
        rows.append(Cosine(seeds, cosine(a.vector, b.vector), *(cosine(*pair) for pair in places)))
    return rows, len(found[0][1].vector) if found else 0


def _direction(run: Ran) -> "Direction | None":
    return records.read_direction(run.layout.direction, run.layout.selection, run.metrics.provenance.model)


def _at(run: Ran, place: "Direction") -> Any:
    """The run's own difference of means where another was chosen."""
    from pipeline.maths.directions import difference_in_means

    means = class_means.read_means(run.layout.activations, run.metrics.provenance.model)
    return difference_in_means(means["harmful_mean"], means["harmless_mean"])[place.position, place.layer]


def as_table(repeated: Repeated) -> "pd.DataFrame":
    """A row for each run: what was chosen, and of each main condition the share refused, its interval and n."""
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    table = pd.DataFrame(list(_rows(repeated)))
    return table.astype({name: "Int64" for name in ("draw", "position", "layer")})


def _rows(repeated: Repeated) -> Iterator[dict[str, Any]]:
    labels = sorted({label for run in repeated.runs for label in run.refusal_score}, key=str)
    for run in repeated.runs:
        row: dict[str, Any] = {"model": repeated.model, "profile": repeated.profile, "seed": run.seed}
        row |= {"answers": run.answers.how, "draw": run.answers.draw, "verdict": run.verdict}
        row |= {"position": run.position, "layer": run.layer}
        for label in labels:
            found = run.refusal_score.get(label)
            row |= {
                f"{label}{end}": getattr(found, name, None)
                for end, name in (("", "value"), ("_low", "low"), ("_high", "high"), ("_n", "n"))
            }
        yield row
