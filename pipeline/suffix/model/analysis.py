"""The suffix analysis from prompts to record, in steps that can each be taken from an earlier, interrupted run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from pipeline.suffix.maths import record
from pipeline.suffix.maths.attribution import top_heads
from pipeline.suffix.maths.changes import best_suffix, change, holm
from pipeline.suffix.model import measure
from pipeline.suffix.model.regions import REGIONS, Regioned, join, regioned_all

Step = Callable[[str, Callable[[], Any]], Any]
TOO_FEW = "too_few_refused_prompts"
EFFECTIVE, WITHOUT_EFFECT = "suffix_lowers_refusal", "suffix_does_not_lower_refusal"


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
    refusal_tokens: Int[Tensor, " token"]
    cutoff: float
    settings: Settings
    step: Step
    refuses: Callable[[str, str | None], bool | None]

    def run(self, given: Instructions, texts: Sequence[str]) -> dict[str, Any]:
        """The record of the suffixes `texts`, in this order; a verdict alone where too few prompts are refused."""
        kept = self._refused(given)
        if min(map(len, (kept.choosing, kept.harmful, kept.harmless))) < LEAST_ROWS:
            counts = f"{len(kept.harmful)} refused harmful and {len(kept.harmless)} answered harmless test prompts"
            return {
                "verdict": TOO_FEW,
                "reason": f"{counts}, {len(kept.choosing)} val prompts: {LEAST_ROWS} are needed",
            }
        plain = self._metrics("harmful", kept.harmful, "")
        tried = [self._try(number, text, kept) for number, text in enumerate(texts)]
        chosen = best_suffix([row["choosing"] for row in tried])
        adversarial = texts[chosen]
        n_tokens = tried[chosen]["tokens"]["most"]
        randoms = self.step("random suffixes", lambda: self._random(kept, n_tokens))
        drawn = [self._metrics(f"random {i}", kept.harmful, text) for i, text in enumerate(randoms)]
        metrics = {
            "harmful": plain,
            "adversarial": tried[chosen]["harmful"],
            "random": [sum(rows) / len(rows) for rows in zip(*drawn, strict=True)],
        }
        metric = record.metric_record(metrics, self.settings.seed)
        readings = self._readings(kept, adversarial, randoms)
        heads = top_heads(measure.averaged([readings["choosing"]], "heads").mean(dim=0), self.settings.n_heads)
        return {
            **_verdict(metric["changes"], chosen),
            "n": {name: len(rows) for name, rows in asdict(kept).items()},
            "tried": self._tried(plain, tried),
            "chosen": chosen,
            "random_draws": [self._draw(kept, text, rows) for text, rows in zip(randoms, drawn, strict=True)],
            "metric": metric
            | {"harmless": asdict(mean(self._metrics("harmless", kept.harmless, ""), self.settings.seed))},
            "refusal_score": self._answers(kept, {"harmful": "", "adversarial": adversarial, "random": randoms[0]}),
            **self._explained(readings, heads),
            **self._restored(kept, adversarial, heads, metrics),
            "prompts": {kind: dict(zip(kept.harmful, rows, strict=True)) for kind, rows in metrics.items()},
        }

    def _refused(self, given: Instructions) -> Instructions:
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

    def _prompts(self, texts: Mapping[str, str], suffix: str) -> list[Regioned]:
        return regioned_all(self.model, list(texts.values()), suffix)

    def _metrics(self, step: str, texts: Mapping[str, str], suffix: str) -> list[float]:
        def compute() -> list[float]:
            prompts = self._prompts(texts, suffix)
            total = forward.n_tokens(self.model, [prompt.tokens for prompt in prompts])
            with progress(f"metric, {step}", total) as bar:
                return measure.metrics(self.model, prompts, self.refusal_tokens, self.settings.max_tokens, bar)

        return self.step(f"metric, {step}", compute)

    def _try(self, number: int, text: str, kept: Instructions) -> dict[str, Any]:
        return {
            "tokens": asdict(measure.tokens_of(self.model, self._prompts(kept.harmful, text), text)),
            "choosing": self._metrics(f"choosing, suffix {number}", kept.choosing, text),
            "harmful": self._metrics(f"harmful, suffix {number}", kept.harmful, text),
        }

    def _tried(self, plain: Sequence[float], tried: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Every suffix by number: its tokens, and its refusal metric with its change, corrected over suffixes."""
        seed = self.settings.seed
        tests = holm({str(number): change(plain, row["harmful"], seed) for number, row in enumerate(tried)})
        return [
            {
                "tokens": row["tokens"],
                "metric_val": asdict(mean(row["choosing"], seed)),
                "metric": asdict(mean(row["harmful"], seed)),
                "against_none": asdict(tests[str(number)]),
            }
            for number, row in enumerate(tried)
        ]

    def _random(self, kept: Instructions, n_tokens: int) -> list[str]:
        settings, instructions = self.settings, list(kept.harmful.values())
        return measure.random_suffixes(self.model, instructions, n_tokens, settings.n_random, settings.seed)

    def _draw(self, kept: Instructions, text: str, rows: Sequence[float]) -> dict[str, Any]:
        tokens = measure.tokens_of(self.model, self._prompts(kept.harmful, text), text)
        return {"text": text, "tokens": asdict(tokens), "metric": asdict(mean(rows, self.settings.seed))}

    def _readings(self, kept: Instructions, adversarial: str, randoms: Sequence[str]) -> dict[str, measure.Reading]:
        wanted = {
            "choosing": (kept.choosing, ""),
            "harmful": (kept.harmful, ""),
            "adversarial": (kept.harmful, adversarial),
            "harmless": (kept.harmless, ""),
            **{f"random {draw}": (kept.harmful, text) for draw, text in enumerate(randoms)},
        }
        return {name: self._reading(name, *row) for name, row in wanted.items()}

    def _reading(self, name: str, texts: Mapping[str, str], suffix: str) -> measure.Reading:
        def compute() -> dict[str, Any]:
            prompts = self._prompts(texts, suffix)
            with progress(f"heads, {name}", ticking.n_tokens(prompt.tokens for prompt in prompts)) as bar:
                return asdict(measure.read(self.model, prompts, self.r_hat, self.settings.max_tokens, bar))

        return measure.Reading(**self.step(f"reading, {name}", compute))

    def _explained(self, readings: Mapping[str, Any], heads: record.Heads) -> dict[str, Any]:
        """Cosine over layers, what the top heads write and where they look, and how well the parts add up."""
        seed = self.settings.seed
        kinds = {name: [readings[name]] for name in ("harmful", "adversarial", "harmless")}
        kinds["random"] = [one for name, one in readings.items() if name.startswith("random")]

        def part(name: str) -> dict[str, Tensor]:
            return {kind: measure.averaged(rows, name) for kind, rows in kinds.items()}

        return {
            "cosine": record.cosine_record(part("cosine"), seed),
            "heads": record.heads_record(part("heads"), heads, seed),
            "heads_sum": record.sum_record(part("heads"), heads, seed),
            "attention": record.attention_record(part("masses"), heads, REGIONS, seed),
            "decomposition": _decomposition(readings),
        }

    def _restored(
        self, kept: Instructions, adversarial: str, heads: record.Heads, metrics: Mapping[str, Sequence[float]]
    ) -> dict[str, Any]:
        def compute() -> dict[str, list[float]]:
            plan = measure.Plan(tuple(heads), self.settings.n_random_heads, self.settings.seed)
            wanted = measure.restorations(self.model, self.r_hat, plan)
            pair = (self._prompts(kept.harmful, ""), self._prompts(kept.harmful, adversarial))
            with progress("restorations", measure.restored_tokens(self.model, *pair, len(wanted))) as bar:
                settings = (wanted, self.refusal_tokens, self.settings.max_tokens, bar)
                return measure.restored_metrics(self.model, *pair, *settings)

        values = self.step("restorations", compute)
        seed = self.settings.seed
        return {
            "restoration": record.restoration_record(metrics["harmful"], metrics["adversarial"], values, seed),
            "restoration_against_controls": record.control_record(values, seed),
        }

    def _answers(self, kept: Instructions, wanted: Mapping[str, str]) -> dict[str, Any]:
        return record.refusal_record(
            {
                kind: self.step(f"answers, {kind}", lambda s=suffix: self._judged(kept, s))
                for kind, suffix in wanted.items()
            }
        )

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


def _verdict(changes: Mapping[str, Any], chosen: int) -> dict[str, str]:
    """Whether the chosen suffix lowers the refusal metric, and more than random ones of its length."""
    tests = {name: changes[name] for name in ("adversarial_against_none", "adversarial_against_random")}
    lowers = all(row["verdict"] == "lower" for row in tests.values())
    said = "; ".join(f"{name.replace('_', ' ')} {_said(row)}" for name, row in tests.items())
    if lowers:
        return {"verdict": EFFECTIVE, "reason": f"suffix {chosen} lowers the refusal metric: {said}"}
    return {
        "verdict": WITHOUT_EFFECT,
        "reason": f"suffix {chosen}, the best of those tried, does not lower the refusal metric below both no suffix "
        f"and random ones: {said}; what follows describes a suffix that does not work and explains no bypass",
    }


def _said(row: Mapping[str, Any]) -> str:
    value, p = row["change"]["value"], row["p_holm"]
    return f"{value:+.2f} nats ({row['verdict']}" + ("" if p is None else f", p {p:.1g}") + ")"


def _decomposition(readings: Mapping[str, Any]) -> dict[str, Any]:
    """Relative errors of the sums, the largest over all prompts that were read; means of the parts by kind."""
    sums, heads = (max(getattr(one, name) for one in readings.values()) for name in ("sum_error", "heads_error"))
    return {
        "sum_error": sums,
        "heads_error": heads,
        "tolerance": measure.SUM_TOLERANCE,
        "holds": max(sums, heads) <= measure.SUM_TOLERANCE,
        "attention_outside": max(one.lost_mass for one in readings.values()),
        "parts": {name: one.parts for name, one in readings.items()},
    }
