"""A race over a table of scores, and what of the table it asked for."""

from pipeline.artifacts import prompt_scores
from pipeline.maths.racing import race, shuffled
from pipeline.maths.selection import PromptScores, Thresholds, select

THRESHOLDS = Thresholds(kl=0.2, induce=-0.7, bypass=-0.7, max_layer=100)
LEVEL = 0.05


class Measured:
    """A table that counts what it is asked for."""

    def __init__(self, table):
        self.table, self.count = table, 0

    def __call__(self, places, prompts):
        self.count += len(places) * (len(prompts.harmful) + len(prompts.harmless))
        return {place: cut(self.table[place], prompts) for place in places}


def cut(scores, prompts):
    return PromptScores(
        tuple(scores.bypass[i] for i in prompts.harmful),
        tuple(scores.induce[i] for i in prompts.harmless),
        tuple(scores.kl[i] for i in prompts.harmless),
    )


def winner(scores, stopped, thresholds):
    table = [prompt_scores.candidate_scores(place, row, stopped.get(place, "")) for place, row in scores.items()]
    chosen = select(table, thresholds, "calibrated").chosen
    return chosen and (chosen.position, chosen.layer)


def raced(table, seed, thresholds=THRESHOLDS, level=LEVEL):
    measured = Measured(table)
    n_harmful, n_harmless = (len(getattr(next(iter(table.values())), name)) for name in ("bypass", "kl"))
    found = race(list(table), shuffled(n_harmful, n_harmless, seed), measured, thresholds, level)
    return found, measured.count / (len(table) * (n_harmful + n_harmless))
