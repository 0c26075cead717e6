"""The command `sweep`: options to jobs, jobs to rows, rows to a table or a results file that can be gone on with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery_core.cli.output import Output, progress, table
from surgery_core.cli.texts import add_scored, calibration_of, margin_of, scored_texts
from surgery_core.errors import SettingsError, SweepFileError
from surgery_core.plans.plan import LayerPlan

if TYPE_CHECKING:
    from surgery_core.models.opening import LoadedModel
    from surgery_core.sweeps.description import Description, InOrder, SweepJob
    from surgery_core.sweeps.findings import Best, BestByAnswers
    from surgery_core.sweeps.rows import SweepRow

Commands = Any
_OPTIONS = ("layer", "max_length", "times", "seed", "length", "damping")
_SHOWN = ("plan", "perplexity", "loss_change", "bits_per_byte", "kl", "top1")
_OF_SKILLS = ("skill_accuracy", "skill_accuracy_low", "skill_accuracy_high", "skill_verdict")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a sweep takes to its parser."""
    what = parser.add_argument_group("what to try")
    what.add_argument(
        "--kind", default="delete", metavar="KIND", help="delete, skip-block, swap-pairs, ... (--kinds lists them)"
    )
    what.add_argument("--kinds", action="store_true", help="list the kinds of sweep")
    what.add_argument("--start", metavar="PLAN", help="the plan that is changed (default: the unchanged model)")
    what.add_argument(
        "--layer",
        type=int,
        metavar="N",
        help="the layer that is moved or scaled, or the first of a looped block (default: in the middle)",
    )
    what.add_argument("--max-length", type=int, metavar="N", help="longest block (default: all but one layer)")
    what.add_argument("--times", type=int, metavar="N", help="how often a repeated layer runs (default: 2)")
    what.add_argument(
        "--factors", type=numbers, metavar="F,F", help="factors of a scale sweep, such as 0,0.5,2; parts of a loop"
    )
    what.add_argument("--length", type=int, metavar="N", help="layers of a looped block (default: a quarter of all)")
    what.add_argument(
        "--damping", type=float, metavar="F", help="part of what a damped repeat adds each time (default: 1 / --times)"
    )
    what.add_argument("--beam", type=int, default=1, metavar="N", help="plans kept by greedy removal (default: 1)")
    what.add_argument("--seed", type=int, metavar="N", help="of shuffles (default: 0)")
    what.add_argument(
        "--stitch-texts", nargs="+", action="extend", metavar="PATH",
        help="what the stitches of stitch-block are fitted on (default: the bundled stories)",
    )  # fmt: skip
    how = parser.add_argument_group("what to measure")
    add_scored(how, "--text")
    how.add_argument("--loss-only", action="store_true", help="leave out KL, top-1 and top-5, which is faster")
    how.add_argument(
        "--best", type=int, metavar="N",
        help="look for the N best plans only, and leave what is surely not among them early (default: 10 where there are "
        "more than 100 plans on one axis; 0: measure all to the end)",
    )  # fmt: skip
    how.add_argument("--skills", action="store_true", help="accuracy on the skills too")
    how.add_argument("--prompt", metavar="TEXT", help="continue this under each plan, for distinct-n of the text")
    where = parser.add_argument_group("where it runs and goes")
    where.add_argument(
        "--out", metavar="FILE", help="results file (CSV); one that is there is gone on with. Several models: a folder"
    )
    where.add_argument(
        "--memory", type=int, default=1024, metavar="MB", help="hidden states that may be kept (default: 1024)"
    )
    where.add_argument("--engine", choices=("local", "ray"), default="local", help="this process, or a Ray cluster")
    where.add_argument("--workers", type=int, default=2, metavar="N", help="workers on Ray (default: 2)")
    where.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs a worker on Ray takes (default: 0)")
    where.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: one on this machine)")


def sweep(arguments: argparse.Namespace) -> Output:
    """Run a sweep over one or several models and return its rows."""
    if arguments.kinds:
        return _kinds()
    if arguments.kind in _SINGLE:
        return _SINGLE[arguments.kind](arguments)
    margin = margin_of(arguments)
    jobs = _jobs(arguments)
    paths = _paths(arguments.out, jobs)
    run = _on_ray if arguments.engine == "ray" else _here
    with progress("Sweeping") as update:
        results = run(arguments, jobs, paths, update)
    lines = [
        result.identity()
        | (row if margin is None else row.within(margin)).record()
        | ({"cut": result.note} if result.note else {})
        for result in results
        for row in sorted(result.rows.values(), key=lambda r: r.number)
    ]
    text = "\n\n".join(_text(job, result) for job, result in zip(jobs, results, strict=True))
    return Output(text, lines, lines)


def _importance(arguments: argparse.Namespace) -> Output:
    """Return what each layer does to the residual stream, from one run and without surgery."""
    from surgery_core.measure.importance import importance

    if arguments.margin is not None:
        raise SettingsError("Importance has no verdicts, so there is nothing to count as the same; leave out --margin.")
    job = _single(arguments)
    loaded = job.load()
    with progress("Reading") as update:
        found = importance(loaded.model, loaded.tokenizer, job.texts, on_progress=update)
    rows = [{str(name): value for name, value in row.items()} for row in found.frame().to_dict("records")]
    cut = _cut(job, loaded)
    lines = [row | cut for row in rows]
    return Output("\n\n".join([table(rows), *cut.values()]), lines, lines)


def _greedy(arguments: argparse.Namespace) -> Output:
    """Return the removal curve: one layer less each time, by measured loss."""
    from surgery_core.sweeps.removal import remove_greedily

    job = _single(arguments)
    loaded = job.load()
    start = LayerPlan.parse(arguments.start, loaded.info.n_layers) if arguments.start else None
    with progress("Searching") as update:
        steps = list(
            remove_greedily(
                loaded.model, loaded.tokenizer, job.texts, start=start, beam=arguments.beam, measures=job.measures,
                on_progress=update,
            )
        )  # fmt: skip
    margin = margin_of(arguments)
    lines = [
        {"layers": step.layers_left, "removed": step.removed}
        | (step.row if margin is None else step.row.within(margin)).record()
        for step in steps
    ]
    shown = [{name: line[name] for name in ("layers", "removed", *_SHOWN)} for line in lines]
    cut = _cut(job, loaded)
    lines = [line | cut for line in lines]
    return Output("\n\n".join([table(shown), *cut.values()]), lines, lines)


def _cut(job: SweepJob, loaded: LoadedModel) -> dict[str, str]:
    """Return how the texts were joined and cut, as a column; none where each was scored for itself."""
    from surgery_core.measure.encoding import encode_texts

    if job.texts[0].window is None:
        return {}
    found = encode_texts(loaded.model, loaded.tokenizer, job.texts).cut
    return {} if found is None else {"cut": found.sentence}


def _single(arguments: argparse.Namespace) -> SweepJob:
    """Return what to run for a kind that tries no fixed list of plans: one model, here, and no results file.

    Raises:
        SettingsError: when more than that is asked for.
    """
    if arguments.out or arguments.engine != "local" or len(arguments.models or ()) > 1:
        raise SettingsError(
            f"The kind {arguments.kind} runs on one model in this process and writes to standard output; "
            "leave out --out and --engine, and redirect --csv or --json to a file."
        )
    return _jobs(arguments)[0]


_SINGLE = {"importance": _importance, "greedy": _greedy}
"""Kinds of the command line that are no fixed list of plans."""


def _here(arguments: argparse.Namespace, jobs: list[SweepJob], paths: list[Path | None], update: Any) -> list[InOrder]:
    from surgery_core.sweeps.description import InOrder, OpenSweep

    results = []
    for job, path in zip(jobs, paths, strict=True):
        opened = OpenSweep(job)
        result = InOrder(opened.description, path)
        results.append(result)
        _take(result, opened.rows(result.missing) if result.expected else iter(()), opened.description, update)
    return results


def _on_ray(
    arguments: argparse.Namespace, jobs: list[SweepJob], paths: list[Path | None], update: Any
) -> list[InOrder]:
    from surgery_core.sweeps.description import InOrder
    from surgery_core.sweeps.on_ray import RaySweeps

    with RaySweeps(jobs, workers=arguments.workers, address=arguments.address, gpus=arguments.gpus) as cluster:
        results = [InOrder(about, path) for about, path in zip(cluster.describe(), paths, strict=True)]
        missing = [result.missing for result in results]
        done, total = 0, sum(map(len, missing))
        for job, row in cluster.rows(missing):
            done += results[job].put(row) and row.number >= 0
            update(done, total)
    return results


def _take(result: InOrder, rows: Iterator[SweepRow], about: Description, update: Any) -> None:
    for row in rows:
        result.put(row)
        update(len(about.numbers) - len(result.missing), len(about.numbers))


def _jobs(arguments: argparse.Namespace) -> list[SweepJob]:
    from surgery_core.measure.skills import load_skills
    from surgery_core.models.offered import DEFAULT_MODEL
    from surgery_core.sweeps.description import SweepJob
    from surgery_core.sweeps.kinds import sweep_kind
    from surgery_core.sweeps.options import SweepOptions
    from surgery_core.sweeps.setup import SweepMeasures

    if arguments.kind not in _SINGLE:
        sweep_kind(arguments.kind)
    if arguments.memory < 0:
        raise SettingsError(f"--memory is {arguments.memory}; give 0 or more megabytes.")
    given = {name: value for name in (*_OPTIONS, "factors") if (value := getattr(arguments, name)) is not None}
    texts = scored_texts(arguments)
    measures = SweepMeasures(
        agreement=not arguments.loss_only,
        skills=load_skills() if arguments.skills else (),
        prompt=arguments.prompt,
        best=arguments.best or None,
    )
    return [
        SweepJob(
            model=name, kind=arguments.kind, texts=texts, options=SweepOptions(**given), start=arguments.start,
            measures=measures, revision=arguments.revision, device=arguments.device, dtype=arguments.dtype,
            memory=arguments.memory * 2**20, shorten=arguments.best is None, calibration=calibration_of(arguments),
        )
        for name in arguments.models or [DEFAULT_MODEL]
    ]  # fmt: skip


def _paths(out: str | None, jobs: list[SweepJob]) -> list[Path | None]:
    """Return each job's results file: the one that was named, or one a model in a folder."""
    if out is None:
        return [None] * len(jobs)
    path = Path(out)
    if len(jobs) == 1:
        return [path]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepFileError(f"{out} is not a folder that can be written ({error.strerror}); give a folder.") from error
    return [path / f"{job.model.replace('/', '--')}-{job.kind}.csv" for job in jobs]


def _text(job: SweepJob, result: InOrder) -> str:
    rows = sorted(result.rows.values(), key=lambda row: row.number)
    said = [(row, why) for row in rows for why in (row.refused, row.not_finite, row.unproved) if why]
    remarks = [f"{row.plan or '(no layers)'}: {why}" for row, why in said]
    if left := sum(bool(row.left) for row in rows):
        remarks.append(
            f"{left} plans were left early, surely not among the best; their figures are of the texts until then."
        )
    where = f", in {result.file.path}" if result.file else ""
    cut = ["", result.note] if result.note else []
    best = [found.sentence(found.row.plan or "(no layers)") for found in _best(result, rows) if found is not None]
    return "\n".join(
        [f"{job.model}, {job.kind}: {len(rows) - 1} plans{where}", "", rows_text(rows), *remarks, *best, *cut]
    )


def _best(result: InOrder, rows: Sequence[SweepRow]) -> tuple[Best | BestByAnswers | None, ...]:
    """Return the best plans by loss and by skills, each measured on what its choice has not seen; none of half a sweep."""
    from surgery_core.sweeps.findings import best_on_unseen, best_on_unseen_items

    return () if result.missing else (best_on_unseen(rows), best_on_unseen_items(rows))


def rows_text(rows: Sequence[SweepRow]) -> str:
    """Return a sweep's rows as a table, without those of plans that were refused."""
    asked = any(row.answers for row in rows)
    shown = (*_SHOWN, *(_OF_SKILLS if asked else ()))
    lines = [
        {"x": row.x}
        | ({} if row.y is None and rows[-1].y is None else {"y": row.y})
        | {name: getattr(row, name) for name in shown}
        for row in rows
        if not row.refused
    ]
    return table(lines)


def _kinds() -> Output:
    from surgery_core.sweeps.kinds import all_kinds

    rows = [{"kind": kind.key, "what": kind.title, "about": kind.about} for kind in all_kinds()]
    rows += [
        {"kind": "importance", "what": "Importance", "about": "Block Influence and angular distance, from one run."},
        {"kind": "greedy", "what": "Greedy removal", "about": "One layer less each time, always the least harmful."},
    ]
    return Output(table(rows), rows, rows)


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a list with commas; errors as those of argparse."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0,0.5,2") from None
