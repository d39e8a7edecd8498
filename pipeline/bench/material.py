"""What the benchmark works on: a model, its 32 + 32 val prompts and its candidates, as the stages left them."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from pipeline.artifacts import class_means, records
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.compose import compose
from pipeline.config.params import profile_of, read_params
from pipeline.config.schema import Config
from pipeline.entry.model import open_model
from pipeline.errors import UserError
from pipeline.maths.directions import Direction, difference_in_means, is_zero
from pipeline.maths.selection import Place, max_layer_for
from pipeline.model.chat import chat
from pipeline.model.loading.loading import ChatModel
from pipeline.model.passes import scoring

N_PROMPTS = 32
SHARED, INSTRUCTION, TAIL = 14, (5, 30), 5  # tokens of a made-up prompt: before, in (from, to) and after it
N_IDS = 250  # made-up prompts have token ids below it: every tokenizer has as many


@dataclass(frozen=True, eq=False)
class Material:
    """`candidates`: those that can be chosen, by (position, layer); `n_reference`: those that the paper scores."""

    config: Config
    layout: Layout
    model: ChatModel
    harmful: list[list[int]]
    harmless: list[list[int]]
    refusal_tokens: Tensor
    candidates: dict[Place, Direction]
    n_reference: int
    max_tokens: int

    @property
    def prompts(self) -> list[list[int]]:
        """Harmful ones first."""
        return [*self.harmful, *self.harmless]

    def validation(self) -> scoring.Validation:
        """What the sweep prepares once."""
        return scoring.prepare(self.model, self.harmful, self.harmless, self.refusal_tokens, self.max_tokens)

    def sample(self, n: int) -> list[Direction]:
        """Candidates of evenly spaced layers, from the first to the last that can be chosen."""
        ordered = sorted(self.candidates, key=lambda place: (place[1], place[0]))
        return [self.candidates[ordered[int((index + 0.5) * len(ordered) / n)]] for index in range(n)]


def compose_now(model: str, profile: str = "", overrides: Sequence[str] = ()) -> Config:
    """The configuration that conf/ gives now, whether stages have seen it or not; without a profile params.yaml's."""
    params = read_params()
    changed = list(overrides) if profile else params.overrides
    config = OmegaConf.to_object(compose(model, profile_of(profile or params.profile), changed))
    assert isinstance(config, Config)
    return config


def material(config: Config, layout: Layout, dtype: str | None = None) -> Material:
    """Load it. Raises UserError when the model's stages have not run."""
    if not layout.scores.exists():
        raise UserError(f"{layout.scores} is missing: run `make repro`, then `make bench`")
    model = open_model(config, dtype)
    means = class_means.read_means(layout.activations, identity(config.model.source))
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    last = max_layer_for(config.select.layer_share, model.n_layers)
    harmful, harmless = (model.encode(_instructions(layout, f"{kind}_val")) for kind in ("harmful", "harmless"))
    candidates = {
        (c.position, c.layer): c
        for c in scoring.candidates(r, last)
        if not is_zero(c.vector, means["harmful_mean"][c.position, c.layer])
    }
    return Material(
        config,
        layout,
        model,
        harmful,
        harmless,
        refusal_tokens=chat.token_ids(records.read_refusal_ids(layout.refusal_ids)["ids"]),
        candidates=candidates,
        n_reference=r.shape[0] * r.shape[1],
        max_tokens=config.engine.max_batch_tokens,
    )


def of_size(size: tuple[int, int], cache: Path) -> Config:
    """A model with random weights, (d_model, layers), made in a folder; heads of 64, an MLP four times as wide."""
    hidden, n_layers = size
    heads = max(2, hidden // 64)
    sizes = {"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": n_layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
    changed = [f"model.source.options.{name}={size}" for name, size in sizes.items()]
    engine = ["engine=accelerator"] if torch.cuda.is_available() else []
    return compose_now("tiny", "standard", [*engine, *changed, f"fetch.cache={cache}"])


def synthetic(config: Config, n_prompts: int, n_candidates: int, dtype: str) -> Material:
    """Random tokens and directions in the form of real ones, for a model that no stage has seen.

    `n_prompts` per class; candidates lie at evenly spaced layers, as far as a layer can be chosen.
    """
    model = open_model(config, dtype)
    draw = torch.Generator().manual_seed(config.seed)

    def ids(n: int) -> list[int]:
        return torch.randint(N_IDS, (n,), generator=draw).tolist()

    shared, tail = ids(SHARED), ids(TAIL)
    lengths = torch.randint(*INSTRUCTION, (2 * n_prompts,), generator=draw).tolist()
    prompts = [[*shared, *ids(length), *tail] for length in lengths]
    last = max_layer_for(config.select.layer_share, model.n_layers)
    width = int(model.hf.get_input_embeddings().weight.shape[-1])  # type: ignore[union-attr,index]
    vectors = torch.randn(n_candidates, width, generator=draw, dtype=torch.float64)
    places = [(-1 - index, index * last // n_candidates) for index in range(n_candidates)]
    return Material(
        config,
        Layout(config.model.name, ""),
        model,
        prompts[:n_prompts],
        prompts[n_prompts:],
        refusal_tokens=chat.token_ids(ids(4)),
        candidates={
            place: Direction(vector, place[1], place[0]) for place, vector in zip(places, vectors, strict=True)
        },
        n_reference=n_candidates,
        max_tokens=config.engine.max_batch_tokens,
    )


def peak_bytes(model: ChatModel) -> int:
    """Most memory that this process has held: of the GPU where the model is on one."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _instructions(layout: Layout, name: str) -> list[str]:
    """The kept prompts of a set, filled up with others to N_PROMPTS."""
    kept = records.kept_instructions(layout, name)
    others = [prompt.instruction for prompt in records.read_prompts(layout.prompts(name))]
    return list(dict.fromkeys([*kept, *others]))[:N_PROMPTS]


def device_name(config: Config) -> str:
    """The kind of device that the model goes to, without the machine's name."""
    if config.engine.device == "cpu" or not torch.cuda.is_available():
        return f"cpu-{torch.get_num_threads()}-threads"
    return torch.cuda.get_device_name()
