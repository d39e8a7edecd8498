"""refusal_tokens: which first tokens mean refusal: the family's list, and one found from the model's own answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model, open_tokenizer
from pipeline.judges.registry import JUDGES
from pipeline.maths.refusal_tokens import FAMILY_CUTOFF, best_cutoff, caught, find_refusal_tokens, metric_of
from pipeline.maths.statistics import auroc, auroc_difference
from pipeline.model.chat import chat
from pipeline.model.generation import generation
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import forward
from pipeline.model.passes.forward import Logits, last_logits
from pipeline.progress import progress


@dataclass(frozen=True, eq=False)
class Answers:
    """Prompts with the first token of each answer, its next-token logits and whether a judge calls it a refusal."""

    first_tokens: Sequence[int]
    refused: Sequence[bool]
    logits: Logits
    rows: Sequence[dict[str, Any]]


def refusal_tokens(config: Config, layout: Layout) -> None:
    """Both lists, how well each tells refused from answered val prompts, and the one in use.

    Without answers to find them from, the family's list alone: the model is not opened.
    """
    if not config.refusal_tokens.n_harmful:
        return _family_alone(config, layout)
    model = open_model(config)
    sizes = {"harmful": config.refusal_tokens.n_harmful, "harmless": config.refusal_tokens.n_harmless}
    train = _answers(config, layout, model, "train", sizes)
    val = _answers(config, layout, model, "val", {})
    lists = {"family": chat.single_token_ids(model.tokenizer, config.model.family.refusal_tokens).tolist()}
    if found := find_refusal_tokens(train.logits, train.first_tokens, train.refused):
        lists["auto"] = found
    auto = {"auto": best_cutoff(metric_of(train.logits, found), train.refused)} if found else {}
    cutoffs = {"family": FAMILY_CUTOFF, **auto}
    used = config.refusal_tokens.source if config.refusal_tokens.source in lists else "family"
    record = {
        "judge": config.refusal_tokens.judge,
        "lists": {name: _described(model, ids, cutoffs[name], train, val, config.seed) for name, ids in lists.items()},
        "difference": _difference(val, lists, config.seed),
        "note": "" if found else f"{sum(train.refused)} of {len(train.refused)} train answers refuse: too few",
        "used": used,
    }
    _write(layout, record, {"ids": lists[used], "cutoff": cutoffs[used]}, [*train.rows, *val.rows])


def _family_alone(config: Config, layout: Layout) -> None:
    ids = chat.single_token_ids(open_tokenizer(config), config.model.family.refusal_tokens).tolist()
    record = {"judge": config.refusal_tokens.judge, "lists": {}, "difference": None, "note": "", "used": "family"}
    _write(layout, record, {"ids": ids, "cutoff": FAMILY_CUTOFF}, [])


def _write(layout: Layout, record: dict[str, Any], used: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    files.write_json(layout.refusal_tokens, record)
    files.write_json(layout.refusal_ids, used)
    files.write_jsonl(layout.fitted_answers, rows)


def _difference(val: Answers, lists: dict[str, list[int]], seed: int) -> dict[str, Any] | None:
    """AUROC of auto minus that of the family's list on val prompts; None without auto."""
    if "auto" not in lists:
        return None
    family, auto = (metric_of(val.logits, lists[name]) for name in ("family", "auto"))
    return asdict(auroc_difference(val.refused, family, auto, seed))


def _answers(config: Config, layout: Layout, model: ChatModel, part: str, sizes: dict[str, int]) -> Answers:
    prompts = [
        (kind, prompt)
        for kind in ("harmful", "harmless")
        for prompt in records.read_prompts(layout.prompts(f"{kind}_{part}"))[: sizes.get(kind)]
    ]
    # Where the refusal metric is read the answer begins, so a model that thinks is not left to think here.
    tokens = model.encode([prompt.instruction for _, prompt in prompts])
    settings, most, generated = config.refusal_tokens, config.engine.max_batch_tokens, {}
    sizes_of = (settings.max_new_tokens, config.generate.batch_size)
    total = generation.n_tokens(model, tokens, *sizes_of) + forward.n_tokens(model, tokens)
    with progress(f"answers, {part}", total) as bar:
        for batch in generation.generate(model, tokens, None, *sizes_of, max_tokens=most, progress=bar):
            generated |= {item.row: item.tokens for item in batch}
        bar.step(f"refusal metric, {part}")
        logits = last_logits(model, tokens, most, bar)
    answers = [chat.decode(model.tokenizer, generated[row], True) for row in range(len(tokens))]
    judge = JUDGES[settings.judge]
    refused = [
        bool(judge(prompt.instruction, text).refused) for (_, prompt), text in zip(prompts, answers, strict=True)
    ]
    return Answers(
        first_tokens=[(generated[row] or (-1,))[0] for row in range(len(tokens))],
        refused=refused,
        logits=logits,
        rows=[
            {"set": f"{kind}_{part}", "id": prompt.id, "completion": text, "refused": verdict}
            for (kind, prompt), text, verdict in zip(prompts, answers, refused, strict=True)
        ],
    )


def _described(
    model: ChatModel, ids: Sequence[int], cutoff: float, train: Answers, val: Answers, seed: int
) -> dict[str, Any]:
    return {
        "tokens": [chat.decode(model.tokenizer, [token]) for token in ids],
        "ids": list(ids),
        "auroc_val": asdict(auroc(val.refused, metric_of(val.logits, ids), seed)),
        "cutoff": cutoff,
        "caught_train": caught(metric_of(train.logits, ids), train.refused, cutoff),
        "caught_val": caught(metric_of(val.logits, ids), val.refused, cutoff),
    }
