"""refusal_tokens: which first tokens mean refusal: the family's list, and one found from the model's own answers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import records
from pipeline.artifacts.layout import Layout
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry.model import open_model, open_tokenizer
from pipeline.judges.registry import JUDGES
from pipeline.maths import refusal_tokens as maths
from pipeline.model.chat import chat
from pipeline.model.generation.answered import answer
from pipeline.model.loading.loading import ChatModel


def refusal_tokens(config: Config, layout: Layout) -> None:
    """Both lists, how well each tells refused from answered val prompts, and the one in use.

    Without answers to find them from, the family's list alone: the model is not opened.
    """
    settings = config.refusal_tokens
    record: dict[str, Any] = {"judge": settings.judge, "lists": {}, "difference": None, "note": "", "used": "family"}
    if not settings.n_harmful:
        ids = chat.single_token_ids(open_tokenizer(config), config.model.family.refusal_tokens).tolist()
        _write(layout, record, {"ids": ids, "cutoff": maths.FAMILY_CUTOFF}, [])
        return
    model = open_model(config)
    train, train_rows = _asked(config, layout, model, "train", (settings.n_harmful, settings.n_harmless))
    val, val_rows = _asked(config, layout, model, "val", (None, None))
    lists = {"family": chat.single_token_ids(model.tokenizer, config.model.family.refusal_tokens).tolist()}
    cutoffs = {"family": maths.FAMILY_CUTOFF}
    if auto := maths.find_refusal_tokens(train.logits, train.first_tokens, train.refused):
        lists["auto"], cutoffs["auto"] = auto, maths.best_cutoff(maths.metric_of(train.logits, auto), train.refused)
        record["difference"] = asdict(maths.difference(val, lists["family"], auto, config.seed))
    else:
        record["note"] = f"{sum(train.refused)} of {len(train.refused)} train answers refuse: too few"
    for name, ids in lists.items():
        told = maths.tell(ids, cutoffs[name], train, val, config.seed)
        record["lists"][name] = {"tokens": [chat.decode(model.tokenizer, [token]) for token in ids], **asdict(told)}
    used = record["used"] = settings.source if settings.source in lists else "family"
    _write(layout, record, {"ids": lists[used], "cutoff": cutoffs[used]}, [*train_rows, *val_rows])


def _write(layout: Layout, record: dict[str, Any], used: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    files.write_json(layout.refusal_tokens, record)
    files.write_json(layout.refusal_ids, used)
    files.write_jsonl(layout.fitted_answers, rows)


def _asked(
    config: Config, layout: Layout, model: ChatModel, part: str, most: tuple[int | None, int | None]
) -> tuple[maths.Asked, list[dict[str, Any]]]:
    """What the model answers to at most so many harmful and harmless prompts, and a row for each."""
    sets = {f"{kind}_{part}": n for kind, n in zip(("harmful", "harmless"), most, strict=True)}
    prompts = [(name, prompt) for name, n in sets.items() for prompt in records.read_prompts(layout.prompts(name))[:n]]
    # Where the refusal metric is read the answer begins, so a model that thinks is not left to think here.
    tokens = model.encode([prompt.instruction for _, prompt in prompts])
    sizes = (config.refusal_tokens.max_new_tokens, config.generate.batch_size)
    answered = answer(model, tokens, sizes, config.engine.max_batch_tokens, part)
    judge, rows = JUDGES[config.refusal_tokens.judge], []
    for (name, prompt), answer_tokens in zip(prompts, answered.answers, strict=True):
        text = chat.decode(model.tokenizer, answer_tokens, True)
        refused = bool(judge(prompt.instruction, text).refused)
        rows.append({"set": name, "id": prompt.id, "completion": text, "refused": refused})
    first_tokens = [(own or (-1,))[0] for own in answered.answers]
    return maths.Asked(first_tokens, [row["refused"] for row in rows], answered.logits), rows
