"""Every judge at work: one verdict per completion, kept as it comes, so that an interrupted run goes on.

What only judges that are models need is imported where they begin: judges of text wait for no library.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.provenance import identity
from pipeline.artifacts.resume import unfinished
from pipeline.config.measuring import EndpointConfig
from pipeline.config.schema import Config
from pipeline.disk.steps import Steps
from pipeline.entry.folders import cache_folder, mirror_folder
from pipeline.judges.formats.formats import FORMATS, Format
from pipeline.judges.probe.file import SHIPPED, SafetyProbe, read_probe
from pipeline.judges.registry import JUDGES
from pipeline.names import PROBE, SAFETY_JUDGES, TEXT_JUDGES
from pipeline.progress import progress
from pipeline.results.verdict import Verdict
from pipeline.sources.hub import fetch_repo

if TYPE_CHECKING:
    from pipeline.judges.endpoint.endpoint import Endpoint
    from pipeline.model.loading.loading import ChatModel

Text = tuple[str, str]  # prompt, completion
Batches = Iterator[list[tuple[int, Verdict]]]


class Panel:
    """Judges with their settings. Each text is judged once, whatever number of rows has it."""

    def __init__(self, config: Config, partial: Callable[[str], Path]):
        """`partial`: where verdicts wait for the rest, by the hash of all that makes them."""
        self.config, self.settings, self.partial = config, config.judge, partial
        self._unfinished: list[Steps] = []

    def verdicts(self, name: str, texts: Sequence[Text]) -> dict[Text, Verdict]:
        """A verdict on every text. Raises UserError for a judge whose weights or server cannot be had."""
        unique = list(dict.fromkeys(texts))
        if name in TEXT_JUDGES:
            return {text: JUDGES[name](*text) for text in unique}
        short = {text: self._short(name, text) for text in unique}
        waiting = [text for text, verdict in short.items() if verdict is None]
        found = self._asked(name, waiting) if waiting else []
        return {text: v for text, v in short.items() if v} | dict(zip(waiting, found, strict=True))

    def finish(self) -> None:
        """Forget what was kept for an interruption, once every verdict stands in an artefact."""
        for steps in self._unfinished:
            steps.discard()

    def _short(self, name: str, text: Text) -> Verdict | None:
        if name in SAFETY_JUDGES and len(text[1].split(" ")) < self.settings.min_words:
            return Verdict("safe", f"fewer than {self.settings.min_words} words")
        return None

    def _asked(self, name: str, texts: Sequence[Text]) -> list[Verdict]:
        if name in self.settings.endpoints:
            return self._by_endpoint(name, texts)
        recipe, judge = self._probe(texts) if name == PROBE else self._weights(FORMATS[name], texts)
        steps = self._kept(name, recipe, texts)
        if len(steps.values) < len(texts):
            for batch in judge(set(map(int, steps.values))):
                steps.keep({str(row): {**record(verdict), "score": verdict.score} for row, verdict in batch})
        return [Verdict(**steps.values[str(row)]) for row in range(len(texts))]

    def _kept(self, *made_by: Any) -> Steps:
        steps = unfinished(self.partial, "judge", *made_by)
        self._unfinished.append(steps)
        return steps

    def _by_endpoint(self, name: str, texts: Sequence[Text]) -> list[Verdict]:
        from pipeline.judges.endpoint.endpoint import judge_rows, made_by, template_of

        endpoint, template = endpoint_of(self.settings.endpoints[name]), template_of(FORMATS[name])
        rows = [(str(number), *text) for number, text in enumerate(texts)]
        steps = self._kept(made_by(endpoint, template), rows)
        with progress(f"judge {name}", len(texts), "text", done=len(steps.values)) as bar:
            return [item.verdict for item in judge_rows(endpoint, template, rows, steps, bar)]

    def _probe(self, texts: Sequence[Text]) -> tuple[Any, Callable[[set[int]], Batches]]:
        """The probe reads the model that it was fitted on, whichever model wrote the texts."""
        from pipeline.judges.model import probing

        fitted = read_probe()

        def judge(done: set[int]) -> Batches:
            model, budget = self._reader(fitted)
            with progress(f"judge {PROBE}", 0) as bar:
                for batch in probing.score(model, fitted.linear, fitted.format, texts, budget, done, bar, bar.total):
                    yield [(item.row, Verdict(item.label, item.reason, item.score)) for item in batch]

        return SHIPPED, judge

    def _reader(self, fitted: SafetyProbe) -> "tuple[ChatModel, int]":
        from pipeline.entry.model import open_model

        reader = reader_config(self.config)
        model = open_model(reader)
        fitted.require({"model": identity(reader.model.source), **model.facts()})
        return model, reader.engine.max_batch_tokens

    def _weights(self, form: Format, texts: Sequence[Text]) -> tuple[Any, Callable[[set[int]], Batches]]:
        from pipeline.entry.model import memory_of
        from pipeline.judges.model.classifier import load
        from pipeline.judges.model.classify import classify

        revision = self.settings.revisions.get(form.name, "")
        recipe = [form.repositories(revision), self.settings.dtype, self.settings.folders.get(form.name)]

        def judge(done: set[int]) -> Batches:
            folder, adapter = self._folders(form, revision)
            memory = memory_of(self.config)
            loaded = load(form, folder, adapter, self.settings.dtype, self.settings.device, memory, progress)
            with progress(f"judge {form.name}", 0) as bar:
                for batch in classify(loaded, texts, self.settings.batch_size, done, bar, bar.total):
                    yield [(item.row, item.verdict) for item in batch]

        return [*recipe, self.settings.batch_size], judge

    def _folders(self, form: Format, revision: str) -> tuple[Path, Path | None]:
        """Where the judge's weights are, and its adapter where it is one: given folders, or fetched."""
        given = self.settings.folders.get(form.name)
        if given:
            adapter = self.settings.adapters.get(form.name)
            return Path(given).expanduser(), Path(adapter).expanduser() if adapter else None
        cache, mirror = cache_folder(self.config), mirror_folder(self.config)
        found = [fetch_repo(repo, commit, cache, mirror) for repo, commit in form.repositories(revision)]
        return found[0], found[1] if form.base else None


def record(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it stands in files."""
    return {"label": verdict.label, "reason": verdict.reason}


def endpoint_of(settings: EndpointConfig) -> "Endpoint":
    """Raises UserError for settings that cannot work."""
    from pipeline.judges.endpoint.endpoint import Endpoint

    return Endpoint(**{key: getattr(settings, key) for key in Endpoint.__dataclass_fields__})


def reader_config(config: Config) -> Config:
    """The configuration as if the probe's reader were its model, on the judges' device."""
    engine = replace(config.reader.engine, device=config.judge.device)
    return replace(config, model=config.reader.model, engine=engine)
