"""What adversarial suffixes do to refusal, to the direction and to the heads that write it, typed (`suffix.json`).

A kind of prompts is `harmful` (refused, as they are), `adversarial` (with the suffix), `random` (mean over random
suffixes of as many tokens, prompt by prompt) or `harmless` (answered, as they are). Everything is read at the last
token of a prompt. A change is of the same harmful prompts; p-values are corrected (Holm) over the table that they
stand in.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.maths.comparisons import Comparison
from pipeline.maths.paired import PairedChange
from pipeline.maths.statistics import Estimate
from pipeline.results.origins import Provenance

Objective = Literal["affirmative", "refusal", "given"]  # the last where no search of this project made a suffix


@dataclass(frozen=True)
class Measure:
    """One number on every kind of prompts, and its changes."""

    harmful: Estimate
    adversarial: Estimate
    random: Estimate
    harmless: Estimate
    adversarial_against_none: PairedChange
    adversarial_against_random: PairedChange
    random_against_none: PairedChange


@dataclass(frozen=True)
class Scores:
    """Refusal score, the share of answers that the judge calls refusals; of random suffixes the first is answered."""

    harmful: Estimate
    adversarial: Estimate
    random: Estimate
    adversarial_against_none: Comparison
    adversarial_against_random: Comparison
    random_against_none: Comparison


@dataclass(frozen=True)
class Regions:
    """Share of the top heads' attention on each part of the prompt; `before` and `after` are the template's."""

    before: Measure
    instruction: Measure
    suffix: Measure
    after: Measure


@dataclass(frozen=True)
class Returned:
    """What comes back when one part is put back to what it is without suffix, at the tokens after the instruction."""

    share: Estimate
    """Of the fall of the refusal metric; 1 is all of it. No number where there is no fall."""
    controls: list[Estimate]
    """The same of each draw of random parts: heads of the same layers, or directions."""
    against_controls: PairedChange
    """Refusal metric, nats: this part put back, against the mean over those draws."""


@dataclass(frozen=True)
class Effect:
    """What the suffix of one objective does: the numbers that stand side by side with another objective's."""

    verdict: str
    """`suffix_lowers_refusal`, or `suffix_does_not_lower_refusal`: below both no suffix and random ones."""
    reason: str
    objective: Objective
    """What the search lowered: `refusal`, the refusal metric; `affirmative`, cross-entropy of `target`."""
    target: str
    """Beginning of the answer that the search made likely; empty for another objective."""
    n_suffixes: int
    """Tried; the one with the lowest refusal metric on val prompts is measured."""
    metric: Measure
    """Refusal metric, nats."""
    below_harmless: Estimate
    """Refusal metric, nats: mean of harmless prompts minus mean with the suffix; above 0 the suffix overshoots."""
    refusal_score: Scores
    cosine: Measure
    """Of `resid_pre` with the direction, at its layer."""
    heads_sum: Measure
    """What the top heads together write along the direction, in the unit of the residual stream."""
    attention: Regions
    component: Returned
    """The direction's component of `resid_pre`, at every layer."""
    top_heads: Returned
    """The outputs of the top heads."""


@dataclass(frozen=True)
class Searched:
    """A search that found one of the suffixes: its settings, and what it cost."""

    objective: Objective
    target: str
    n_prompts: int
    """Refused train prompts."""
    suffix_tokens: int
    starts: int
    """Random beginnings, of which the best was kept."""
    candidates: int
    """One-token changes tried in each step."""
    top_k: int
    """Tokens per place that they were drawn from."""
    seed: int
    dtype: str
    steps: int
    loss_before: float
    """Nats, of the objective, mean over the prompts."""
    loss_after: float
    cpu_minutes: float


@dataclass(frozen=True)
class Tokens:
    """How a suffix stands in the prompts."""

    fewest: int
    """Of its tokens in any prompt."""
    most: int
    straddling: int
    """Prompts in which a token reaches over the boundary to the instruction."""
    retokenised: int
    """Prompts in which it is not read as it is by itself."""


@dataclass(frozen=True)
class Tried:
    """A suffix, by the sha256 of its text alone."""

    sha256: str
    tokens: Tokens
    metric_val: Estimate
    """Refusal metric, nats, on the val prompts that choose."""
    metric: Estimate
    """Refusal metric, nats, on test prompts."""
    against_none: PairedChange


@dataclass(frozen=True)
class Draw:
    """A random suffix."""

    text: str
    tokens: Tokens
    metric: Estimate
    """Refusal metric, nats."""


@dataclass(frozen=True)
class Head:
    """What one head writes along the direction, in the unit of the residual stream."""

    layer: int
    head: int
    written: Measure


@dataclass(frozen=True)
class Restored:
    """One part put back to what it is without suffix, at the tokens after the instruction."""

    metric: Estimate
    """Refusal metric, nats."""
    against_suffix: PairedChange
    """Nats."""
    returned: Estimate
    """Share of the fall."""


@dataclass(frozen=True)
class Restoration:
    """Each part, put back at all tokens after the instruction; `_last`: at the last token alone."""

    nothing: Restored
    all_heads: Restored
    top_heads: Restored
    top_heads_last: Restored
    random_heads: list[Restored]
    """Draws of as many other heads of the same layers."""
    component: Restored
    """Along the direction, at every layer."""
    component_last: Restored
    component_at: list[Restored]
    """By layer: at that one alone."""
    random_directions: list[Restored]
    """Draws: the component along a random direction, at every layer."""


@dataclass(frozen=True)
class Decomposition:
    """Whether embedding, heads, biases and MLPs give the residual stream's projection on the direction."""

    sum_error: float
    """Relative, the largest of any prompt and layer."""
    heads_error: float
    """The same of the heads alone against what attention writes."""
    tolerance: float
    holds: bool
    attention_outside: float
    """Largest share of attention that no region has."""
    parts: dict[str, dict[str, float]]
    """Mean projection of each part, by kind of prompts."""


@dataclass(frozen=True)
class Analysis:
    """The suffixes of one objective, and the one of them that is measured."""

    effect: Effect
    searches: list[Searched]
    """Empty where no search here found them."""
    tried: list[Tried]
    chosen: int
    """Index in `tried`."""
    random_draws: list[Draw]
    cosine: list[Measure]
    """Of `resid_pre` with the direction, by layer."""
    random_outside: list[int]
    """Layers at which random suffixes move the mean cosine out of the interval of prompts without suffix."""
    heads: list[Head]
    """The top heads: those that write most along the direction on val prompts without suffix."""
    decomposition: Decomposition
    restoration: Restoration
    prompts: dict[str, dict[str, float]]
    """Refusal metric, nats, by kind and id of a prompt."""


@dataclass(frozen=True)
class Counts:
    """Prompts: refused val prompts that choose, refused harmful and answered harmless test prompts."""

    choosing: int
    harmful: int
    harmless: int


@dataclass(frozen=True)
class Measured:
    """What was measured, of which suffixes, on what."""

    source: str
    """Where the suffixes come from: `found` by a search, `given`, or the file that lists them."""
    made_for: str
    layer: int
    """Of the direction."""
    judge: str
    """Of the refusal score."""
    n: Counts
    analyses: dict[Objective, Analysis]
    """By objective."""
    provenance: Provenance


@dataclass(frozen=True)
class Suffix:
    """A run's analysis of adversarial suffixes; where nothing was measured, the reason alone."""

    verdict: str
    """`measured`, `not_run`, `too_few_refused_prompts`, or that of a run without a direction."""
    reason: str
    measured: Measured | None = None
    version: Literal[1] = 1

    @property
    def effects(self) -> dict[Objective, Effect]:
        """What the suffix of each objective does."""
        return {name: one.effect for name, one in self.measured.analyses.items()} if self.measured else {}
