"""What the benchmark works on: a model, its 32 + 32 val prompts and its candidates, as the stages left them."""

from dataclasses import dataclass

import torch
from omegaconf import OmegaConf
from torch import Tensor

from pipeline.artifacts import files, records, tensors
from pipeline.artifacts.layout import Layout
from pipeline.artifacts.provenance import identity
from pipeline.config.compose import compose
from pipeline.config.params import read_params
from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.maths.directions import Direction, difference_in_means, is_zero
from pipeline.maths.racing import Place
from pipeline.maths.selection import max_layer_for
from pipeline.model import chat, scoring
from pipeline.model.loading import ChatModel
from pipeline.stages.models import open_model

N_PROMPTS = 32


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

    def validation(self) -> scoring.Validation:
        """What the sweep prepares once."""
        return scoring.prepare(self.model, self.harmful, self.harmless, self.refusal_tokens, self.max_tokens)

    def sample(self, n: int) -> list[Direction]:
        """Candidates of evenly spaced layers, from the first to the last that can be chosen."""
        ordered = sorted(self.candidates, key=lambda place: (place[1], place[0]))
        return [self.candidates[ordered[int((index + 0.5) * len(ordered) / n)]] for index in range(n)]


def compose_now(model: str) -> Config:
    """The configuration that params.yaml and conf/ give now, whether stages have seen it or not."""
    params = read_params()
    config = OmegaConf.to_object(compose(model, params.profile, params.overrides))
    assert isinstance(config, Config)
    return config


def material(config: Config, layout: Layout, dtype: str | None = None) -> Material:
    """Load it. Raises UserError when the model's stages have not run."""
    if not layout.scores.exists():
        raise UserError(f"{layout.scores} is missing: run `make repro`, then `make bench`")
    model = open_model(config, dtype)
    means = tensors.read_tensors(layout.activations, model=identity(config.model.source))
    r = difference_in_means(means["harmful_mean"], means["harmless_mean"])
    last = max_layer_for(config.select.layer_share, model.n_layers)
    return Material(
        config,
        layout,
        model,
        *(model.encode(_instructions(layout, f"{kind}_val")) for kind in ("harmful", "harmless")),
        chat.token_ids(files.read_json(layout.refusal_ids)["ids"]),
        {
            (c.position, c.layer): c
            for c in scoring.candidates(r, last)
            if not is_zero(c.vector, means["harmful_mean"][c.position, c.layer])
        },
        r.shape[0] * r.shape[1],
        config.engine.max_batch_tokens,
    )


def _instructions(layout: Layout, name: str) -> list[str]:
    """The kept prompts of a set, filled up with others to N_PROMPTS."""
    kept = records.kept_instructions(layout, name)
    others = [prompt.instruction for prompt in records.read_prompts(layout.prompts(name))]
    return list(dict.fromkeys([*kept, *others]))[:N_PROMPTS]


def device_name(model: ChatModel) -> str:
    """The kind of device, without the machine's name."""
    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return f"cpu, {torch.get_num_threads()} threads"
