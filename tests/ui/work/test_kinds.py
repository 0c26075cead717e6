"""The table of kinds of jobs: it has whatever the sources ask for, nothing else is done, and edits let go as it says."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

import pytest

from surgery_ui.work import lens_jobs, sweep_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import PLAN_LANES, TABLE, TRAY, Kind, Lane, Tells, Workers, kinds_of, tray_lanes
from surgery_ui.work.pool import Pool
from tests.ui.conftest import Open
from tests.ui.support.reading import type_notation
from tests.ui.support.sources import calls, name_of, trees

POOLS = {
    "MODELS": cached.MODELS,
    "WORK": cached.WORK,
    "SWEEPS": sweep_jobs.SWEEPS,
    "TRAINING": lens_jobs.TRAINING,
    "FETCHING": lens_jobs.FETCHING,
}
JOBS = {path: tree for path, tree in trees().items() if path.startswith("surgery_ui/work/") and "pool" not in path}


def requests() -> list[tuple[ast.FunctionDef, ast.Call]]:
    """Return every call in the sources that asks a pool for work, with the function that it stands in.

    A worker elsewhere hands on what was asked for here.
    """
    sources = [tree for path, tree in trees().items() if not path.endswith("work/worker.py")]
    functions = [node for tree in sources for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [(function, call) for function in functions for call in calls(function) if name_of(call) == "request"]


def kind_of(function: ast.FunctionDef, key: ast.expr) -> str:
    """Return the kind of a key: a tuple where it stands, in a variable, or as another function makes it."""
    if isinstance(key, ast.Name):
        key = next(
            node.value
            for node in ast.walk(function)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and key.id in ast.unparse(node)
        )
    if isinstance(key, ast.Call):
        made = next(one for tree in JOBS.values() for one in ast.walk(tree) if getattr(one, "name", "") == name_of(key))
        key = next(node.value for node in ast.walk(made) if isinstance(node, ast.Return) and node.value is not None)
    if not isinstance(key, ast.Tuple):  # `((key, work),) = _speeds(loaded).items()`
        return needed()[ast.unparse(key).split("(")[0]]
    first = key.elts[0]
    assert isinstance(first, ast.Constant), f"{ast.unparse(key)} has no kind"
    return str(first.value)


def needed() -> dict[str, str]:
    """Return the kinds of what other jobs need, by the function that returns a key with its work."""
    found = {}
    for tree in JOBS.values():
        for function in ast.walk(tree):
            for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict) and node.value.keys:
                    (key,) = node.value.keys
                    assert isinstance(key, ast.Tuple)
                    assert isinstance(key.elts[0], ast.Constant)
                    found[function.name] = str(key.elts[0].value)
    return found


def test_the_table_has_exactly_the_kinds_that_the_sources_ask_of_each_pool() -> None:
    asked: dict[str, set[str]] = {name: set() for name in POOLS}
    for function, call in requests():
        pool = ast.unparse(call.func).split(".")[-2]
        if function.name == "speeds_job":
            asked[pool].add(needed()["_speeds"])
        else:
            asked[pool].add(kind_of(function, call.args[2]))
    asked["WORK"] |= set(needed().values())
    assert {name: set(kinds_of(Workers[name])) for name in POOLS} == asked


def lanes_wanted() -> list[ast.expr]:
    """Return what stands in the sources wherever a lane is wanted."""
    takes = {
        function.name: [argument.arg for argument in function.args.args].index("lane")
        for tree in JOBS.values()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and "lane" in [argument.arg for argument in function.args.args]
    }
    found = [call.args[1] for _, call in requests()]
    for call in (call for tree in trees().values() for call in calls(tree)):
        if name_of(call) in takes:
            named = [keyword.value for keyword in call.keywords if keyword.arg == "lane"]
            found.extend(named or [call.args[takes[name_of(call)]]])
    return found


def test_lanes_are_those_of_the_table_wherever_one_is_wanted() -> None:
    """A lane is a member of `Lane`, the parameter of one, or what a dictionary of members holds; never a string."""
    for lane in lanes_wanted():
        assert isinstance(lane, (ast.Attribute, ast.Name, ast.Subscript)), ast.unparse(lane)
    used = {
        node.attr
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Lane" and not path.endswith("work/kinds.py")
    }
    assert used == set(Lane.__members__), "every lane is used, and none that there is not"
    left = [call for tree in trees().values() for call in calls(tree) if name_of(call) == "leave"]
    strings = [node for call in left for node in ast.walk(call) if isinstance(node, ast.Constant)]
    assert not [node.value for node in strings if isinstance(node.value, str) and node.value != "owner"]


def test_every_lane_has_one_decision_and_a_pool_of_its_own() -> None:
    rows = [(lane, kind.pool, lane in kind.dropped) for kind in TABLE for lane in kind.lanes]
    side_by_side = {lane for what in ("text", "scores", "layers", "skills", "proof") for lane in tray_lanes(what)}
    assert {lane for lane, _, _ in rows} == set(Lane) | side_by_side
    assert len(side_by_side) == 5 * TRAY
    assert Counter(lane for lane, _, _ in set(rows)).most_common(1)[0][1] == 1
    assert all(pool == Workers.WORK for lane, pool, dropped in rows if dropped), "`plans.keep` asks that pool alone"
    assert set(PLAN_LANES) == {lane for lane, _, dropped in rows if dropped}
    assert len({kind.key for kind in TABLE}) == len(TABLE)
    assert all(kind.about and kind.kept > 0 for kind in TABLE)


def test_a_kind_or_lane_that_is_not_in_the_table_is_an_error() -> None:
    pool = Pool(1, {"text": Kind("text", Workers.WORK, 4, "A test's.", held=(Lane.TEXT_BEFORE,))})
    with pytest.raises(LookupError, match=r"does no 'poem'.*work/kinds\.py"):
        pool.request("a", Lane.TEXT_BEFORE, ("poem", 1), lambda job: 1)
    with pytest.raises(LookupError, match="does no 'poem'"):
        pool.request("a", Lane.TEXT_BEFORE, ("text", 1), lambda job: 1, {("poem",): lambda job: 1})
    with pytest.raises(LookupError, match="'scores' is no lane of 'text'"):
        pool.request("a", Lane.SCORES, ("text", 1), lambda job: 1)
    assert pool.load() == (0, 0)
    assert pool.request("a", Lane.TEXT_BEFORE, ("text", 1), lambda job: 1).wait(5)
    for whose in POOLS.values():
        with pytest.raises(LookupError):
            whose.request("a", Lane.SCORES, ("poem", 1), lambda job: 1)


def test_an_edit_lets_go_of_what_is_of_the_old_plan_and_of_nothing_else(
    open_app: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: work of the unchanged model, and work that is started by a button, is of no plan."""
    app, left = open_app(), []
    monkeypatch.setattr(cached.WORK, "leave", lambda owner, lanes=None, needs=True: left.append((set(lanes), needs)))
    type_notation(app, "0,3,2,0")
    gone = {
        "after", "cut", "swapped", "scores", "own-scores", "cut-scores", "own-cut-scores",
        "layers-after", "lens-after", "lens-distances", "averages-after", "proof",
        "skills-after", "checkpoint", "gguf", "mergekit", "report",
    }  # fmt: skip
    # what they wait for, the unchanged model's side, goes on
    assert left == [(gone, False)]


@cache
def work_of() -> dict[str, set[str]]:
    """Return, by kind, the source of every function that asks for such work or makes it for other work."""
    found: dict[str, set[str]] = {kind.key: set() for kind in TABLE}
    needs = needed()
    for function, call in requests():
        kind = needs["_speeds"] if function.name == "speeds_job" else kind_of(function, call.args[2])
        found[kind].add(whole(function))
    for tree in JOBS.values():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and function.name in needs:
                found[needs[function.name]].add(whole(function))
    return found


def whole(function: ast.FunctionDef) -> str:
    """Return the source of a function, and of those that its tasks do."""
    done = {ast.unparse(call.args[0]) for call in calls(function) if name_of(call) == "Task"}
    there = {node.name: node for tree in JOBS.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return "\n".join(ast.unparse(one) for one in (function, *(there[name] for name in sorted(done))))


def test_work_is_a_task_wherever_another_process_may_do_it() -> None:
    """A closure cannot be sent."""
    for function, call in requests():
        pool = ast.unparse(call.func).split(".")[-2]
        if pool in ("WORK", "SWEEPS", "TRAINING"):
            assert "Task(" in ast.unparse(function) or function.name == "speeds_job", function.name


def test_every_kind_tells_how_far_it_is_or_is_short() -> None:
    """By hand: what is short was timed (`docs/performance.md`), and what tells nothing is somebody else's code."""
    told = {Tells.PROGRESS: "job.report", Tells.PIECES: "job.put"}
    for kind in TABLE:
        for source in work_of()[kind.key] if kind.tells in told else ():
            if f"'{kind.key}'" in source:
                assert told[kind.tells] in source, f"{kind.key} says nothing of how far it is"
    assert {kind.key for kind in TABLE if kind.tells is Tells.SHORT} == {"table", "mergekit", "costs", "reading"}
    assert {kind.key for kind in TABLE if kind.tells is Tells.CLOCK} == {"model", "lens-fetch"}


def test_all_work_that_is_not_short_can_be_stopped() -> None:
    """By hand: nothing reaches into transformers' opening of a model, or into the hub's client."""
    for kind in TABLE:
        if kind.tells in (Tells.PROGRESS, Tells.PIECES):
            for source in work_of()[kind.key]:
                stops = "job.stop" in source or "_sweep(loaded, request, job)" in source
                assert stops or f"'{kind.key}'" not in source, kind.key
