"""metrics: the model's numbers with intervals, ranks and tests, in one committed file."""

from dataclasses import fields

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity, provenance
from pipeline.config.schema import Config
from pipeline.disk import files, shape, tables
from pipeline.maths import evaluation
from pipeline.maths.claim import claim
from pipeline.results import compared, handed_on, overview
from pipeline.results.choosing import RefusalTokens
from pipeline.results.effects import Capability
from pipeline.results.handed_on import Exported, LossRow, NotExported
from pipeline.results.judgements import read_judgements
from pipeline.results.metrics import VERSION
from pipeline.results.metrics_file import of_values, write_metrics
from pipeline.results.origins import Answers
from pipeline.results.suffix_file import read_suffix
from pipeline.stages.shared import safety

READ = tuple(field.name for field in fields(Config) if field.name not in ("fetch", "memory"))


def metrics(config: Config, layout: Layout) -> None:
    """Collect refusal scores, paired comparisons, agreement, selection, loss and export."""
    pinned = identity(config.model.source)
    selection = records.read_selection(layout.selection)
    judge, judges = config.judge.refusal, config.judge.refusal_judges
    judgements = read_judgements(layout, judges, config.judge.safety, judge)
    verdicts = {name: judgements.refused(name) for name in judges}
    outcomes = verdicts[judge]
    comparisons = evaluation.comparisons(outcomes)
    record = {
        "model": config.model.name,
        "title": config.model.title,
        "verdict": selection["verdict"],
        "reason": selection["reason"],
        "judge": judge,
        "max_new_tokens": config.generate.max_new_tokens,
        "answers": shape.read_record(layout.sampling, Answers),
        "reference": config.model.reference,
        "refusal_score": evaluation.rates(outcomes),
        "unknown": evaluation.unknown(outcomes),
        "comparisons": comparisons,
        "claim": claim(outcomes),
        "moved_controls": evaluation.moved_controls(comparisons),
        "other_judges": {name: evaluation.rates(rows) for name, rows in verdicts.items() if name != judges[0]},
        "agreement": evaluation.agreement(verdicts),
        "safety": {name: safety.scores(judgements, name) for name in config.judge.safety},
        "attacks": safety.attacks(layout, judgements, config.judge.safety, config.data.sets),
        "systems": {
            "main": records.read_filter_summary(layout.filter_summary)["measured"]["system"],
            "of_template": not config.model.chat.system,
            "prompts": dict(config.evaluate.systems),
            "not_measured": shape.read_record(layout.systems, dict[str, str]),
        },
        "by_length": evaluation.rates_by_length(judgements.refused_after(judge)),
        **compared.beside_controls(layout),
        "estimators": compared.estimators(layout, selection, outcomes, config.seed),
        "refusal_tokens": shape.read_record(layout.refusal_tokens, RefusalTokens),
        "outcomes": outcomes,
        "selection": selection,
        "loss": shape.read_record(layout.loss, dict[str, LossRow]),
        "capability": shape.read_record(layout.capability, Capability),
        "export": shape.read_record(layout.equivalence, Exported | NotExported),
        "suffixes": read_suffix(layout.suffix).effects,
        "prompts": handed_on.prompts(layout),
        "provenance": provenance(config, layout, pinned, READ),
        "version": VERSION,
    }
    measured = of_values(record)
    write_metrics(layout.metrics, measured)
    tables.write_csv(layout.rates, overview.rates_table(measured))
    files.write_json(layout.headline, overview.headline(measured))
