"""Does this model work? Open it, run every check, and print what was found in one table.

A name of conf/model/, or a folder with config.json, tokenizer and safetensors, whose family is found by its
model_type. Nothing is measured and nothing is kept. Exit status 1 and one line when something is wrong.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.checks import AUTO
from pipeline.config.compose import compose, family
from pipeline.config.labels import HUB_ID, shown
from pipeline.config.place import CONF
from pipeline.config.schema import Config
from pipeline.display import plain
from pipeline.entry.arguments import Parser
from pipeline.entry.program import guarded
from pipeline.errors import UserError
from pipeline.progress import note

PROFILE = "quick"  # whose run the estimate of minutes is for
TOKENS_PER_PROMPT = 45  # of a usual prompt in its template


def configuration(target: str, overrides: list[str]) -> Config:
    """The run's configuration for a name or a folder. Raises UserError for a folder whose family is not known."""
    folder = Path(target)
    if not folder.is_dir():
        if folder.exists() or (os.sep in target and not HUB_ID.fullmatch(target)):
            raise UserError(
                f"{shown(target)} is no folder: give one that holds config.json, tokenizer and safetensors, or a name "
                "of conf/model/"
            )
        return _composed(target, overrides)
    config = _composed("tiny", overrides)
    config.model.name = config.model.title = folder.resolve().name
    config.model.family = family(_family_of(folder))
    config.model.source.kind, config.model.source.path = "folder", str(folder)
    return config


def _composed(model: str, overrides: list[str]) -> Config:
    config = OmegaConf.to_object(compose(model, PROFILE, overrides))
    assert isinstance(config, Config)
    return config


def _family_of(folder: Path) -> str:
    from pipeline.model.loading.loading import model_type

    wanted = model_type(folder.name, folder)
    names = [path.stem for path in sorted((CONF / "family").glob("*.yaml")) if path.stem != "tiny"]
    found = [name for name in names if wanted in family(name).model_types]
    if not found:
        known = ", ".join(sorted({each for name in names for each in family(name).model_types}))
        raise UserError(
            f"{folder} has architecture '{wanted}', which no file of conf/family/ describes: known are {known}"
        )
    return found[0]


def rows(config: Config) -> Iterator[tuple[str, str]]:
    """What there is to say, a line at a time."""
    from rich.filesize import decimal

    from pipeline.entry.model import load_folder, model_folder
    from pipeline.export.model import inspection, proof

    folder = model_folder(config)
    dtype = "float32" if config.engine.dtype == AUTO else config.engine.dtype
    note(f"opening {config.model.title} in {dtype}")
    model = load_folder(config, folder, dtype)
    shape, described = inspection.shape(model), config.model.family
    yield "architecture", f"{shape.architecture} ({shape.model_type}), family {described.name}"
    yield "blocks, width, vocabulary", f"{shape.blocks}, {shape.width:,}, {shape.vocabulary:,}"
    yield "context", f"{shape.context:,} tokens" if shape.context else "the configuration states none"
    yield "post-instruction tokens", _tokens(model, model.post_instruction)
    yield "thoughts", inspection.how_thoughts_end(model)
    yield "end tokens", ", ".join(map(repr, inspection.end_tokens(model)))
    kept, split = inspection.refusal_tokens(model, described.refusal_tokens)
    if not kept:
        raise UserError(
            f"no refusal token of family '{described.name}' is one token of model '{model.name}': "
            "set model.family.refusal_tokens"
        )
    yield "refusal tokens", ", ".join(map(repr, kept)) + (f"; split by this tokenizer: {split}" if split else "")
    tensors = inspection.tensors(model, folder)
    yield "tensors", _tensors(tensors)
    yield (
        "self-check",
        (
            f"resid_pre + writes = next resid_pre to {model.report.residual_error:.1e} of its size; "
            f"a padded batch equals single prompts to {model.report.padding_error:.1e}"
        ),
    )
    note("weights against live ablation")
    weights = sum(x.nbytes for x in model.hf.parameters())
    yield (
        "exactness of the edit",
        _exactness(inspection.edited(model), described.exact, proof.bound(described.exact, dtype)),
    )
    yield "memory", f"{decimal(weights)} of weights in {dtype}, and about 1 GB beside them"
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    yield "disk", f"{decimal(size)} for the export, as much as the model itself"
    running = _running(config, folder, model, dtype)
    speed = inspection.speed(model, running)
    yield (
        f"minutes of profile {PROFILE}",
        f"about {_minutes(config, model, speed):.0f}, at {speed:,.0f} tokens/s here in {running}",
    )


def _tokens(model: Any, tokens: tuple[int, ...]) -> str:
    from pipeline.model.chat import chat

    return " ".join(repr(chat.decode(model.tokenizer, [token])) for token in tokens)


def _tensors(found: Any) -> str:
    if found is None:
        return "packed: accounted for by the library"
    text = f"{len(found.read)} read, none missing, none left over"
    return text + (
        f"; {len(found.unread)} that the architecture does not read: {found.unread[0]}" if found.unread else ""
    )


def _exactness(edit: Any, exact: bool, limit: Any) -> str:
    if edit is None:
        return "not tried: weights are packed or on disk"
    share = edit.difference / edit.effect if edit.effect else float("inf")
    if not share <= limit.logits:
        raise UserError(
            f"edited weights differ from live ablation by {share:.2g} of what ablation moves, and the bound is "
            f"{limit.logits:g}: the family file does not describe this model"
        )
    kind = "exact" if exact else "up to a positive factor per write (a norm stands between)"
    return f"{kind}: logits differ by {edit.difference:.1e}, where ablation moves them by {edit.effect:.2g}"


def _running(config: Config, folder: Path, model: Any, dtype: str) -> str:
    """The dtype that a run computes in, which stage `engine` settles; the checks are of float32 where it is free."""
    from pipeline.export.model import surgery
    from pipeline.model.loading import fastest

    if config.engine.dtype != AUTO or not surgery.is_editable(model):
        return dtype
    speeds = fastest.speeds(folder, config.engine.device)
    return max(speeds, key=speeds.__getitem__)


def _minutes(config: Config, model: Any, speed: float) -> float:
    """A rough count of tokens through the model: metric, candidates, answers."""
    sizes = [config.sizes.harmful, config.sizes.harmless]
    asked = sum(size.train + size.val for size in sizes)
    candidates = len(model.post_instruction) * int(config.select.layer_share * model.n_layers)
    # Every candidate on every val prompt, whose shared start runs once; of an addition only the blocks from its layer.
    scored = candidates * 2 * config.select.max_val * TOKENS_PER_PROMPT / 3
    answers = sum(size.test for size in sizes) * 4 * (TOKENS_PER_PROMPT + 4 * config.generate.max_new_tokens)
    started = 2.0  # two dozen stages, and the export's files
    return started + (3 * asked * TOKENS_PER_PROMPT + scored + answers) / speed / 60


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("model", help="name of a file in conf/model/, or a folder")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as engine.dtype=bfloat16")
    arguments = parser.parse_args()

    def run() -> None:
        from rich.console import Console

        from pipeline.printed import Shown, words

        config = configuration(arguments.model, arguments.overrides)
        found = list(rows(config))
        table = Shown(title=words(config.model.title), show_header=False)
        for name, text in found:
            table.add_row(name, text)
        Console(markup=False, highlight=False).print(table)
        print(f"{plain(config.model.title)} works: every check passed")

    guarded(run)
