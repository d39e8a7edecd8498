"""What several seeds and sampled answers say of one model, as a table and sentences."""

from collections.abc import Iterator

from pipeline.maths.labels import Label
from pipeline.maths.repeated import Between
from pipeline.report.markdown import Row, rate, table, with_interval
from pipeline.report.sentences.words import listed, paragraph, percent
from pipeline.results.repeated import Over, Repeated

CONDITIONS = {
    Label("harmful", "baseline"): "harmful, unchanged",
    Label("harmful", "ablation"): "harmful, ablated",
    Label("harmless", "baseline"): "harmless, unchanged",
    Label("harmless", "addition"): "harmless, added",
}


def repeated(found: Repeated) -> str:
    """Each run, then all seeds together, then all draws."""
    columns = ("run", "verdict", "position, layer", *CONDITIONS.values(), "n of each")
    runs = table(columns, _runs(found))
    together = table(
        (
            "refused",
            "over seeds, 95 % interval over prompts",
            "prompts",
            "lowest to highest seed",
            "share between seeds",
        ),
        _together(found.seeds),
    )
    return "\n".join((runs, together, paragraph([*_choices(found), *_draws(found)])))


def _runs(found: Repeated) -> Iterator[Row]:
    for run in found.runs:
        sampled = "" if run.answers.draw is None else f", sampled answers, draw {run.answers.draw}"
        place = "" if run.position is None else f"{run.position}, {run.layer}"
        rates = (rate(run.refusal_score.get(label)) for label in CONDITIONS)
        n = sorted({row.n for row in run.refusal_score.values()})
        yield f"seed {run.seed}{sampled}", run.verdict, place, *rates, listed([str(one) for one in n])


def _together(over: Over) -> Iterator[Row]:
    for label, words in CONDITIONS.items():
        if (row := over.refusal_score.get(label)) is None:
            continue
        spread = f"{percent(row.spread.low)} to {percent(row.spread.high)}"
        share = _between(row.between) if row.between else ""
        yield words, with_interval(row.value, "{:.0%}"), str(row.value.n), spread, share


def _between(found: Between) -> str:
    return "none: less than sampling gives" if found.is_none else with_interval(found.share, "{:.0%}")


def _choices(found: Repeated) -> Iterator[str]:
    places = [(run.position, run.layer) for run in found.runs if run.answers.draw is None]
    kinds = {place: places.count(place) for place in places}
    said = [f"{'no place' if place[0] is None else f'({place[0]}, {place[1]})'} by {n}" for place, n in kinds.items()]
    yield f"Places that {len(places)} seeds choose: {listed(said)}."
    if found.cosines:
        values = [row.chosen for row in found.cosines]
        chance = f" (two random directions: at most {found.chance_cosine:.2f})" if found.chance_cosine else ""
        yield f"Two seeds' directions have cosine {min(values):.2f} to {max(values):.2f}{chance}."


def _draws(found: Repeated) -> Iterator[str]:
    for label, words in CONDITIONS.items():
        if row := found.against_greedy.get(label):
            yield f"Sampled instead of greedy answers, {words}: {with_interval(row, '{:+.0%}')} ({row.n} prompts)."
