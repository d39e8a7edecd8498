"""The table of what interventions cost: cross-entropy of harmless text."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from pipeline import printed
from pipeline.maths.labels import Treatment
from pipeline.report.tables import wording
from pipeline.results.effects import Loss
from pipeline.results.values import LossChange

EFFECTS = ("ablation", "export", "subtraction", "addition")


def loss_table(losses: Mapping[str, Loss]) -> Table:
    """Change of the loss under every effect of the direction and of its controls, a column per set of texts."""
    sets = {f"{name.replace('_', ' ')} (n = {row.n_documents})": row for name, row in losses.items()}
    table = printed.table("what it costs: change of CE loss, nats per token, 95 % interval", "model", *sets)
    found = {done for row in sets.values() for done in row.change}
    for effect in EFFECTS:
        for done in sorted((done for done in found if done.effect == effect), key=lambda done: done.source):
            table.add_row(_words(done), *(_cell(row.change.get(done)) for row in sets.values()))
        table.add_section()
    table.caption = printed.caption(*_notes(found, any(c.rank for row in sets.values() for c in row.change.values())))
    return table


def _words(done: Treatment) -> str:
    if done.effect == "export":
        return "direction taken out of the weights"
    return f"{done.source.replace('_', ' ') or 'direction'} {wording.DONE.get(done.effect, done.effect)}"


def _cell(change: LossChange | None) -> str:
    if change is None:
        return "-"
    place = f", {wording.rank(change.rank)}" if change.rank else ""
    return f"{wording.value(change, '{:+.3f}')} {wording.interval(change, '{:+.3f}')}{place}"


def _notes(found: set[Treatment], ranked: bool) -> Iterator[str]:
    yield "n: documents, over which intervals are; a mean over tokens; each change is paired, document by document"
    if ranked:
        yield "1 of 20 and the like: place of the direction's rise among its null controls', first is the largest"
    if Treatment("export") in found:
        yield "taken out of the weights: the edited model itself, which should cost what ablation costs"
