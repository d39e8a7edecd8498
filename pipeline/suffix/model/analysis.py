"""The suffix analysis from prompts to record, in steps that can each be taken from an earlier, interrupted run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from pipeline.maths.statistics import LEAST_ROWS, mean
from pipeline.model.chat import thoughts
from pipeline.model.generation import generation
from pipeline.model.generation.generation import generate
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import forward, ticking
from pipeline.progress import progress
from pipeline.results import suffix as results
from pipeline.suffix import record
from pipeline.suffix.group import Group, spent
from pipeline.suffix.maths.attribution import top_heads
from pipeline.suffix.maths.changes import best_suffix, difference_of_means
from pipeline.suffix.model import measure
from pipeline.suffix.model.regions import Regioned, join, regioned_all

Step = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Instructions:
    """Texts by prompt id: val prompts that choose, and test prompts of both classes that are measured."""

    choosing: Mapping[str, str]
    harmful: Mapping[str, str]
    harmless: Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """Sizes of the analysis."""

    n_prompts: int
    n_random: int
    n_heads: int
    n_random_heads: int
    max_new_tokens: int
    batch_size: int
    max_tokens: int
    seed: int


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything that the steps share. `refuses`: a judge's verdict on (instruction, answer)."""

    model: ChatModel
    r_hat: Float[Tensor, " d_model"]
    layer: int
    refusal_tokens: Int[Tensor, " token"]
    cutoff: float
    settings: Settings
    step: Step
    refuses: Callable[[str, str | None], bool | None]

    def kept(self, given: Instructions) -> Instructions:
        """The first prompts that the model refuses (harmful) or answers (harmless), by the refusal metric."""
        n, cutoff = self.settings.n_prompts, self.cutoff
        harmful = self._metrics("all harmful", given.harmful, "")
        harmless = self._metrics("all harmless", given.harmless, "")
        refused = [key for key, value in zip(given.harmful, harmful, strict=True) if value > cutoff][:n]
        answered = [key for key, value in zip(given.harmless, harmless, strict=True) if value < cutoff][:n]
        return Instructions(
            given.choosing,
            {key: given.harmful[key] for key in refused},
            {key: given.harmless[key] for key in answered},
        )

    def run(self, kept: Instructions, groups: Sequence[Group]) -> dict[results.Objective, results.Analysis]:
        """What the best suffix of each group does, by objective; `kept` as `kept` has them, enough of each."""
        choosing = self._reading("choosing", kept.choosing, "")
        heads = top_heads(measure.averaged([choosing], "heads").mean(dim=0), self.settings.n_heads)
        return {group.objective: self._analysis(kept, group, heads) for group in groups}

    def _analysis(self, kept: Instructions, group: Group, heads: record.Heads) -> results.Analysis:
        objective = group.objective
        tried = [self._try(f"{objective} {number}", text, kept) for number, text in enumerate(group.texts)]
        chosen = best_suffix([row["choosing"] for row in tried])
        adversarial, n_tokens = group.texts[chosen], tried[chosen]["tokens"]["most"]
        texts = self.step(f"random suffixes of {n_tokens} tokens", lambda: self._random(kept, n_tokens))
        randoms = {f"random {number} of {n_tokens}": text for number, text in enumerate(texts)}
        drawn = [self._metrics(name, kept.harmful, text) for name, text in randoms.items()]
        metrics = {
            "harmful": self._metrics("harmful", kept.harmful, ""),
            "adversarial": tried[chosen]["harmful"],
            "random": [sum(rows) / len(rows) for rows in zip(*drawn, strict=True)],
            "harmless": self._metrics("harmless", kept.harmless, ""),
        }
        [metric] = record.measures([metrics])
        verdict, reason = record.verdict(metric, _named(group, chosen))
        if group.searches and verdict == record.WITHOUT_EFFECT:
            reason = f"no suffix found at this budget ({spent(group.searches)}): {reason}"
        readings = self._readings(kept, objective, adversarial, randoms)
        cosine, outside = record.cosines(_part(readings, "cosine"))
        restored = self._restored(kept, objective, adversarial, heads)
        restoration = record.restoration(metrics["harmful"], metrics["adversarial"], restored)
        answered = {"harmful": ("harmful", ""), "adversarial": (f"suffix {objective}", adversarial)}
        answered |= {"random": next(iter(randoms.items()))}
        answers = {kind: self._answers(name, kept, text) for kind, (name, text) in answered.items()}
        return results.Analysis(
            effect=results.Effect(
                verdict=verdict,
                reason=reason,
                objective=objective,
                target=group.searches[chosen].target if group.searches else "",
                n_suffixes=len(group.texts),
                metric=metric,
                below_harmless=difference_of_means(metrics["harmless"], metrics["adversarial"]),
                refusal_score=record.scores(answers),
                cosine=cosine[self.layer],
                heads_sum=record.heads_sum(_part(readings, "heads"), heads),
                attention=record.attention(_part(readings, "masses"), heads),
                **record.returned(restoration, restored),
            ),
            searches=list(group.searches),
            tried=record.tried(metrics["harmful"], tried),
            chosen=chosen,
            random_draws=[self._draw(kept, text, rows) for text, rows in zip(texts, drawn, strict=True)],
            cosine=cosine,
            random_outside=outside,
            heads=record.heads(_part(readings, "heads"), heads),
            decomposition=_decomposition(readings),
            restoration=restoration,
            prompts={
                kind: dict(zip(kept.harmless if kind == "harmless" else kept.harmful, rows, strict=True))
                for kind, rows in metrics.items()
            },
        )

    def _prompts(self, texts: Mapping[str, str], suffix: str) -> list[Regioned]:
        return regioned_all(self.model, list(texts.values()), suffix)

    def _metrics(self, step: str, texts: Mapping[str, str], suffix: str) -> list[float]:
        def compute() -> list[float]:
            prompts = self._prompts(texts, suffix)
            total = forward.n_tokens(self.model, [prompt.tokens for prompt in prompts])
            with progress(f"metric, {step}", total) as bar:
                return measure.metrics(self.model, prompts, self.refusal_tokens, self.settings.max_tokens, bar)

        return self.step(f"metric, {step}", compute)

    def _try(self, name: str, text: str, kept: Instructions) -> dict[str, Any]:
        return {
            "sha256": sha256(text.encode()).hexdigest(),
            "tokens": asdict(self._tokens(kept, text)),
            "choosing": self._metrics(f"choosing, suffix {name}", kept.choosing, text),
            "harmful": self._metrics(f"harmful, suffix {name}", kept.harmful, text),
        }

    def _tokens(self, kept: Instructions, text: str) -> results.Tokens:
        return measure.tokens_of(self.model, self._prompts(kept.harmful, text), text)

    def _random(self, kept: Instructions, n_tokens: int) -> list[str]:
        settings, instructions = self.settings, list(kept.harmful.values())
        return measure.random_suffixes(self.model, instructions, n_tokens, settings.n_random, settings.seed)

    def _draw(self, kept: Instructions, text: str, rows: Sequence[float]) -> results.Draw:
        return results.Draw(text, self._tokens(kept, text), mean(rows))

    def _readings(
        self, kept: Instructions, objective: str, adversarial: str, randoms: Mapping[str, str]
    ) -> dict[str, measure.Reading]:
        return {
            "choosing": self._reading("choosing", kept.choosing, ""),
            "harmful": self._reading("harmful", kept.harmful, ""),
            "adversarial": self._reading(f"suffix {objective}", kept.harmful, adversarial),
            "harmless": self._reading("harmless", kept.harmless, ""),
            **{name: self._reading(name, kept.harmful, text) for name, text in randoms.items()},
        }

    def _reading(self, name: str, texts: Mapping[str, str], suffix: str) -> measure.Reading:
        def compute() -> dict[str, Any]:
            prompts = self._prompts(texts, suffix)
            with progress(f"heads, {name}", ticking.n_tokens(prompt.tokens for prompt in prompts)) as bar:
                return asdict(measure.read(self.model, prompts, self.r_hat, self.settings.max_tokens, bar))

        return measure.Reading(**self.step(f"reading, {name}", compute))

    def _restored(
        self, kept: Instructions, objective: str, adversarial: str, heads: record.Heads
    ) -> dict[str, list[float]]:
        def compute() -> dict[str, list[float]]:
            plan = measure.Plan(tuple(heads), self.settings.n_random_heads, self.settings.seed)
            wanted = measure.restorations(self.model, self.r_hat, plan)
            pair = (self._prompts(kept.harmful, ""), self._prompts(kept.harmful, adversarial))
            with progress("restorations", measure.restored_tokens(self.model, *pair, len(wanted))) as bar:
                settings = (wanted, self.refusal_tokens, self.settings.max_tokens, bar)
                return measure.restored_metrics(self.model, *pair, *settings)

        return self.step(f"restorations, {objective}", compute)

    def _answers(self, name: str, kept: Instructions, suffix: str) -> dict[str, bool | None]:
        return self.step(f"answers, {name}", lambda: self._judged(kept, suffix))

    def _judged(self, kept: Instructions, suffix: str) -> dict[str, bool | None]:
        """Whether each answer is refused; the answers themselves are not kept."""
        model, settings, ids = self.model, self.settings, list(kept.harmful)
        prompts = model.encode([join(text, suffix) for text in kept.harmful.values()], thoughts=True)
        verdicts: dict[str, bool | None] = {}
        sizes = (settings.max_new_tokens, settings.batch_size)
        with progress("answers", generation.n_tokens(model, prompts, *sizes)) as bar:
            for batch in generate(model, prompts, None, *sizes, progress=bar):
                for item in batch:
                    text = thoughts.spoken(model.tokenizer, item.tokens, model.format)
                    verdicts[ids[item.row]] = self.refuses(kept.harmful[ids[item.row]], text)
        return {key: verdicts[key] for key in ids}


def too_few(kept: Instructions) -> str:
    """Why nothing can be measured; empty where enough prompts are refused and answered."""
    if min(map(len, (kept.choosing, kept.harmful, kept.harmless))) >= LEAST_ROWS:
        return ""
    counts = f"{len(kept.harmful)} refused harmful and {len(kept.harmless)} answered harmless test prompts"
    return f"{counts}, {len(kept.choosing)} val prompts: {LEAST_ROWS} are needed"


def _named(group: Group, chosen: int) -> str:
    """The suffix that is measured, in words."""
    which = f"suffix {chosen}, the best of {len(group.texts)} on val prompts" if len(group.texts) > 1 else "the suffix"
    if not group.searches:
        return which
    search = group.searches[chosen]
    lowered = f"cross-entropy of '{search.target}'" if search.target else "the refusal metric itself"
    return f"{which} (searched by {lowered})"


def _part(readings: Mapping[str, measure.Reading], name: str) -> dict[str, Tensor]:
    """One part of the readings by kind of prompts, the random suffixes averaged."""
    kinds = {kind: [readings[kind]] for kind in ("harmful", "adversarial", "harmless")}
    kinds["random"] = [one for key, one in readings.items() if key.startswith("random")]
    return {kind: measure.averaged(rows, name) for kind, rows in kinds.items()}


def _decomposition(readings: Mapping[str, measure.Reading]) -> results.Decomposition:
    """Relative errors of the sums, the largest over all prompts that were read; means of the parts by kind."""
    sums, heads = (max(getattr(one, name) for one in readings.values()) for name in ("sum_error", "heads_error"))
    return results.Decomposition(
        sum_error=sums,
        heads_error=heads,
        tolerance=measure.SUM_TOLERANCE,
        holds=max(sums, heads) <= measure.SUM_TOLERANCE,
        attention_outside=max(one.lost_mass for one in readings.values()),
        parts={name: one.parts for name, one in readings.items()},
    )
