"""Which parameter each tensor of a file becomes, named as the library's loader would; no weights are read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import MergeModulelist, WeightConverter, WeightRenaming, rename_source_key


@dataclass(frozen=True)
class Named:
    """The parameter that a tensor becomes, or is part of; `pattern`: the conversion it goes through, None for none."""

    parameter: str
    pattern: str | None


class Naming:
    """The names of one model's tensors on disk."""

    def __init__(self, model: PreTrainedModel):
        transforms = get_model_conversion_mapping(model)
        self._renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
        self._converters = [each for each in transforms if isinstance(each, WeightConverter)]
        self._prefix, self._state = model.base_model_prefix, model.state_dict()
        ignored = [*(model._keys_to_ignore_on_load_unexpected or [])]
        self._ignored = re.compile("|".join(f"(?:{pattern})" for pattern in ignored)) if ignored else None

    def of(self, disk: str) -> Named:
        """The parameter that tensor `disk` goes to, whether the model has it or not."""
        found = rename_source_key(disk, self._renamings, self._converters, self._prefix, self._state)
        return Named(*found)

    def ignored(self, disk: str) -> bool:
        """Of tensors that no parameter takes: the architecture's own list has it as one that is not read."""
        names = (disk, self.of(disk).parameter)
        return self._ignored is not None and any(self._ignored.search(name) for name in names)

    @property
    def stacking(self) -> set[str]:
        """Conversions that only stack tensors: each keeps its rows and columns."""
        merging = [each for each in self._converters if all(isinstance(op, MergeModulelist) for op in each.operations)]
        return {pattern for converter in merging for pattern in converter.source_patterns}

    @property
    def splits(self) -> bool:
        """Some tensors become several parameters, so that one name says too little."""
        return any(len(converter.target_patterns) > 1 for converter in self._converters)

    def converts(self, disk: Iterable[str]) -> bool:
        """Some of these tensors are changed on loading."""
        return any(self.of(name).pattern is not None for name in disk)
