"""seeds: choice, verdict and rates of a model over several seeds, and over sampled instead of greedy answers.

Runs what conf/experiment/seeds.yaml names, each an isolated run of the graph as in a sweep, and writes what they say
together to outputs/seeds/<model>/: seeds.csv has a row for each run, seeds.json every number with its interval. What is
computed already is not computed again, so a second call goes on where the first one ended.
"""

from pipeline.entry.arguments import Parser


def _run(model: str | None, read_only: bool) -> None:
    from rich.console import Console

    from pipeline.artifacts.layout import Layout
    from pipeline.artifacts.seal import write_seal
    from pipeline.config.compose import compose
    from pipeline.config.params import read_params
    from pipeline.config.seeds import read_seeds
    from pipeline.disk.tables import write_csv
    from pipeline.graph.repeated import code_of, configured
    from pipeline.results.repeated import place, read_repeated, write_repeated
    from pipeline.sweep.jobs import job_folder, job_params, prepare, run_job
    from pipeline.sweep.repeated import Ran, as_table, together
    from pipeline.sweep.table import repeated_tables

    model = model or read_params().models[0]
    settings, path = read_seeds(), place(model)
    if not read_only:
        jobs = [job_params(rows, {"model": model, "profile": settings.profile}) for rows in settings.overrides]
        configs = [configured(compose(model, settings.profile, job["overrides"])) for job in jobs]
        code, ran = code_of(), []
        for job in jobs:
            folder = job_folder(job)
            prepare(folder, job)
            run_job(folder)
            ran.append(Ran.of(job["overrides"], Layout(model, settings.profile, folder)))
        n = len(settings.seeds)
        repeated = together(ran[:n], ran[n:], code, configs[0])
        write_repeated(path, repeated)
        write_csv(path.with_suffix(".csv"), as_table(repeated))
        write_seal(path.with_name("seal.json"), [path, path.with_suffix(".csv")])
    for table in repeated_tables(read_repeated(path)):
        Console(width=170).print(table)


def main() -> None:
    """Command line."""
    parser = Parser(__doc__)
    parser.add_argument("--model", help="a file of conf/model/ instead of the first one in params.yaml")
    parser.add_argument("--print", action="store_true", dest="read_only", help="the tables as they are, nothing is run")
    arguments = parser.parse_args()

    from pipeline.entry.program import guarded

    guarded(lambda: _run(arguments.model, arguments.read_only))
