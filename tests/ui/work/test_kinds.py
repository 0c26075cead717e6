"""The table of kinds of jobs: it has whatever the sources ask for, nothing else is done, and edits let go as it says."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from surgery_ui.work import lens_jobs, sweep_jobs
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import PLAN_LANES, TABLE, Kind, Lane, Workers, kinds_of
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
    """Return every call in the sources that asks a pool for work, with the function that it stands in."""
    functions = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
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
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
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
    assert {lane for lane, _, _ in rows} == set(Lane)
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
        "after", "scores", "own-scores", "layers-after", "lens-after", "lens-distances", "averages-after", "proof",
        "skills-after", "importance", "checkpoint", "mergekit", "report",
    }  # fmt: skip
    # what they wait for, the unchanged model's side, goes on
    assert left == [(gone, False)]
