"""Where each artefact of a run lives, below one root folder."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.maths.labels import Label

SETS = ("harmful_train", "harmful_val", "harmful_test", "harmless_train", "harmless_val", "harmless_test")
TEXTS = ("plain_text", "instruction_answers")
KEPT_BENCH = Path("outputs/speed")  # ratios that pages show
CODE = Path("outputs/code.json")  # what code each stage depends on
WORKSPACE = Path("outputs/partial/workspace.lock")  # held while the graph is run


@dataclass(frozen=True)
class Layout:
    """Paths of one run's artefacts; every file name of the project is here.

    A run is a model under a label (`pipeline.config.params`).
    """

    model: str
    run: str
    root: Path = Path()

    @property
    def folder(self) -> Path:
        """Everything of this run that DVC keeps."""
        return self.root / "outputs" / "models" / self.model / self.run

    @property
    def evaluation(self) -> Path:
        """The run's numbers, small and committed."""
        return self.root / "outputs" / "eval" / self.model / self.run

    @property
    def config(self) -> Path:
        """Resolved configuration, written by `compose`."""
        return self.folder / "config.yaml"

    @property
    def engine(self) -> Path:
        """{dtype} in which the run computes, and how fast this machine was in each; settled once."""
        return self.folder / "engine.json"

    def prompts(self, name: str) -> Path:
        """Rows {id, instruction, category, source, licence} of one of SETS, or of a further evaluation set."""
        return self.folder / ("prompts" if name in SETS else "sets") / f"{name}.jsonl"

    @property
    def sets_audit(self) -> Path:
        """Counts, licences and hashes of the further evaluation sets, and what they share with train and val."""
        return self.folder / "sets" / "audit.json"

    @property
    def audit(self) -> Path:
        """Duplicates between sets, counts, licences, surface-form AUROC."""
        return self.folder / "prompts" / "audit.json"

    @property
    def refusal_tokens(self) -> Path:
        """Both lists of refusal tokens, how well each tells refusals apart, and which is in use."""
        return self.folder / "refusal_tokens" / "tokens.json"

    @property
    def refusal_ids(self) -> Path:
        """{ids, cutoff} in use, alone: all that later stages depend on."""
        return self.folder / "refusal_tokens" / "ids.json"

    @property
    def fitted_answers(self) -> Path:
        """Rows {set, id, completion, refused}: the unchanged model's short answers to train and val prompts."""
        return self.folder / "refusal_tokens" / "answers.jsonl"

    @property
    def baseline(self) -> Path:
        """Rows {set, id, refusal_metric, kept} of the unchanged model on train and val prompts."""
        return self.folder / "activations" / "baseline.jsonl"

    @property
    def activations(self) -> Path:
        """Mean and variance of `resid_pre` per class, position x layer x d_model, float64."""
        return self.folder / "activations" / "means.safetensors"

    def resid_pre(self, kind: str) -> Path:
        """`resid_pre` of every kept train prompt of a class; there only when asked for."""
        return self.folder / "activations" / f"resid_pre_{kind}.safetensors"

    @property
    def filter_summary(self) -> Path:
        """How many prompts the refusal filter kept, and the verdict when they are too few."""
        return self.folder / "activations" / "summary.json"

    @property
    def scores(self) -> Path:
        """Candidate scores, a row per (position, layer)."""
        return self.folder / "scores" / "scores.csv"

    @property
    def prompt_scores(self) -> Path:
        """The same per prompt, and the unchanged model's refusal metric: candidate x prompt, float64."""
        return self.folder / "scores" / "prompts.safetensors"

    @property
    def baselines(self) -> Path:
        """Mean refusal metric of the unchanged model on the val prompts."""
        return self.folder / "scores" / "baselines.json"

    @property
    def selection(self) -> Path:
        """The verdict, the chosen candidate and what each filter removed."""
        return self.folder / "direction" / "selection.json"

    @property
    def direction(self) -> Path:
        """The chosen raw direction; not there when none was chosen."""
        return self.folder / "direction" / "direction.safetensors"

    @property
    def found(self) -> tuple[Path, ...]:
        """What is committed of a run beside its numbers: the direction, if any, its selection, every score."""
        return self.direction, self.selection, self.scores

    @property
    def found_folder(self) -> Path:
        """Where copies of `found` lie in git."""
        return self.metrics.parent / "found"

    @property
    def rows(self) -> Path:
        """`resid_pre` of every kept train prompt at the chosen place: harmful and harmless, prompt x d_model."""
        return self.folder / "controls" / "rows.safetensors"

    @property
    def controls(self) -> Path:
        """Raw control directions that answer prompts, by name, with the layer and position of each."""
        return self.folder / "controls" / "directions.safetensors"

    @property
    def control_scores(self) -> Path:
        """What the direction and every control are, and do on each test prompt; the unchanged model's metric."""
        return self.folder / "controls" / "scores.json"

    @property
    def findings(self) -> Path:
        """What each estimator's chosen candidate adds, and reads where it is an affine edit."""
        return self.folder / "estimators" / "findings.safetensors"

    @property
    def estimators(self) -> Path:
        """The selection of each estimator, with scores per prompt of its choice, on val and on test prompts."""
        return self.folder / "estimators" / "selection.json"

    @property
    def stability(self) -> Path:
        """How stable the choice of the direction is."""
        return self.evaluation / "stability.json"

    @property
    def invariance(self) -> Path:
        """How many greedy completions change with batch size, padding and dtype."""
        return self.evaluation / "invariance.json"

    @property
    def suffix(self) -> Path:
        """What adversarial suffixes do to the direction, and through which heads."""
        return self.evaluation / "suffix.json"

    @property
    def found_suffixes(self) -> Path:
        """Suffixes that `python -m pipeline search-suffix` found on this model; no stage makes them."""
        return self.root / "outputs" / "suffixes" / f"{self.model}.json"

    def completions(self, condition: Label) -> Path:
        """Rows {id, prompt_set, completion, n_tokens, finished, prefixes} of one condition."""
        return self.folder / ("completions" if condition.is_main else "further") / f"{condition}.jsonl"

    @property
    def sampling(self) -> Path:
        """How the answers of the run were made: greedy, or drawn and how."""
        return self.folder / "completions" / "sampling.json"

    @property
    def systems(self) -> Path:
        """System prompts by name that were not measured, and why."""
        return self.folder / "further" / "systems.json"

    def partial(self, key: str) -> Path:
        """Rows of unfinished work, by the hash of all that makes them; not an artefact."""
        return self.root / "outputs" / "partial" / f"{key}.jsonl"

    def lock(self, stage: str) -> Path:
        """Held by the process that runs a stage, whatever its run: two runs may share what is unfinished."""
        return self.root / "outputs" / "partial" / f"{stage}.lock"

    def judgements(self, condition: Label) -> Path:
        """Rows {id, verdicts by judge, by_length} of one condition."""
        return self.folder / "judgements" / f"{condition}.jsonl"

    def texts(self, name: str) -> Path:
        """Rows {id, instruction, text, source, licence} whose loss is measured: one of TEXTS."""
        return self.folder / "texts" / f"{name}.jsonl"

    @property
    def loss(self) -> Path:
        """Cross-entropy per text set and intervention, and changes."""
        return self.folder / "loss.json"

    @property
    def capability(self) -> Path:
        """Task scores per condition with intervals, paired changes, and export against live ablation."""
        return self.folder / "capability" / "summary.json"

    def capability_items(self, condition: str) -> Path:
        """Rows {task, item, value, answer, log_likelihoods} of one condition."""
        return self.folder / "capability" / f"{condition}.jsonl"

    @property
    def export(self) -> Path:
        """The model with orthogonalised weights, its card and equivalence.json."""
        return self.folder / "export"

    @property
    def equivalence(self) -> Path:
        """Export against live ablation."""
        return self.export / "equivalence.json"

    @property
    def coverage(self) -> Path:
        """Every parameter that writes to the residual stream, and how the export edited it."""
        return self.export / "coverage.json"

    def partial_export(self, key: str) -> Path:
        """An unfinished export, by the hash of all that makes it; not an artefact."""
        return self.root / "outputs" / "partial" / f"export-{key}"

    @property
    def metrics(self) -> Path:
        """The model's numbers, small and committed."""
        return self.evaluation / "metrics.json"

    @property
    def rates(self) -> Path:
        """A row per condition and judge."""
        return self.evaluation / "rates.csv"

    @property
    def headline(self) -> Path:
        """About ten numbers."""
        return self.evaluation / "headline.json"

    @property
    def report(self) -> Path:
        """The tables of this run, as printed."""
        return self.evaluation / "report.txt"

    @property
    def committed(self) -> tuple[Path, Path]:
        """The run's folders of committed results: numbers with tables, and figures."""
        return self.evaluation, self.figure("any").parent

    @property
    def seal(self) -> Path:
        """{path: sha256} of every committed result of the run."""
        return self.evaluation / "seal.json"

    @property
    def gate_baseline(self) -> Path:
        """What the gate holds this run against."""
        return self.root / "regression" / self.model / f"{self.run}.json"

    def bench(self, kind: str) -> Path:
        """Times and ratios of this machine; not an artefact."""
        return self.root / "outputs" / "bench" / f"{self.model}-{kind}.json"

    def kept_bench(self, kind: str) -> Path:
        """Ratios alone, with the machine that they were measured on; committed."""
        return self.root / KEPT_BENCH / f"{self.model}-{kind}.json"

    @property
    def costs(self) -> Path:
        """Rows {stage, seconds, memory_mib, gpu_memory_mib}, one a time that a stage ran here; not an artefact."""
        return self.root / "outputs" / "bench" / f"{self.model}-{self.run}-stages.jsonl"

    def written(self, stage: str) -> Path:
        """{path: md5} of what a stage wrote when it last ran here and others read; not an artefact."""
        return self.root / "outputs" / "bench" / f"{self.model}-{self.run}-written" / f"{stage}.json"

    def figure(self, name: str) -> Path:
        """A figure of this model."""
        return self.root / "outputs" / "figures" / self.model / self.run / f"{name}.png"
