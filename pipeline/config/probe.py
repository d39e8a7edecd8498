"""What conf/probe.yaml says: labelled completions, what is asked of the model, how the probe is fitted."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.checks import DTYPES
from pipeline.config.place import CONF
from pipeline.config.probe_question import ProbeFormat
from pipeline.config.reading import merged, read_settings
from pipeline.errors import UserError

PATH = CONF / "probe.yaml"


@dataclass
class LabelledFiles:
    """CSV files of completions with human scores. `safe` and `unsafe`: [lowest, highest] mean score of each label.

    Rows with another score are left out; an empty range gives no row that label.
    """

    name: str = MISSING
    licence: str = MISSING
    place: str = MISSING
    prompt: str = MISSING
    completion: str = MISSING
    score: str = MISSING
    safe: list[float] = MISSING
    unsafe: list[float] = MISSING
    files: dict[str, str] = MISSING

    def __post_init__(self):
        for key in ("safe", "unsafe"):
            if len(getattr(self, key)) not in (0, 2):
                raise ValueError(f"sources: {self.name}.{key} is {getattr(self, key)}: use [lowest, highest] or []")

    def unsafe_at(self, score: float) -> bool | None:
        """Whether a row of this mean score is unsafe; None when it is left out."""
        if self.unsafe and self.unsafe[0] <= score <= self.unsafe[1]:
            return True
        return False if self.safe and self.safe[0] <= score <= self.safe[1] else None


@dataclass
class FormatConfig:
    """See ProbeFormat."""

    question: str = MISSING
    max_prompt_tokens: int = MISSING
    max_answer_tokens: int = MISSING
    min_words: int = MISSING

    def value(self) -> ProbeFormat:
        """The same as a frozen value. Raises ValueError for one out of range."""
        return ProbeFormat(self.question, self.max_prompt_tokens, self.max_answer_tokens, self.min_words)


@dataclass
class ProbeConfig:
    """All that a fit depends on, beside the model."""

    model: str = MISSING
    dtype: str = MISSING
    format: FormatConfig = field(default_factory=FormatConfig)
    sources: list[LabelledFiles] = MISSING
    excluded: list[str] = MISSING
    layers: list[list[int]] = MISSING
    strengths: list[float] = MISSING
    n_folds: int = MISSING
    seed: int = MISSING

    def __post_init__(self):
        if not self.layers or not all(self.layers) or not self.strengths or min(self.strengths) <= 0:
            raise ValueError("probe: layers and strengths need at least one entry each, strengths above 0")
        if self.dtype not in DTYPES:
            raise ValueError(f"probe.dtype is '{self.dtype}': use one of {', '.join(DTYPES)}")
        if self.n_folds < 2:
            raise ValueError(f"probe.n_folds is {self.n_folds}: use at least 2")
        self.format.value()


def read_spec(path: Path = PATH) -> ProbeConfig:
    """conf/probe.yaml, checked. Raises UserError naming what is wrong."""
    try:
        raw = read_settings(path)
        spec = merged(ProbeConfig, raw)
        if missing := sorted(OmegaConf.missing_keys(spec)):
            raise UserError(f"{path}: no value for {', '.join(missing)}")
        loaded = OmegaConf.to_object(spec)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path}: {str(error).strip().splitlines()[0]}") from None
    assert isinstance(loaded, ProbeConfig)
    return loaded
