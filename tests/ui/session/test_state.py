"""What a session holds is declared in one file, with its type; no key is written twice."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict

import pytest
import streamlit as st

from surgery_core.plans.generation_settings import GenerationSettings
from surgery_ui.session import state as declared
from surgery_ui.session.state import Field, State, bring_back, fields, state, to_keep
from tests.ui.conftest import Open
from tests.ui.support.sources import calls, name_of, trees

HERE = "surgery_ui/session/state.py"
READS = ("get", "setdefault", "pop")
DRAWS_UNKEYED = ("sorted", "min", "max", "sort", "Kind")
"""Calls whose `key` is no widget's."""


@pytest.fixture(autouse=True)
def _empty() -> None:
    st.session_state.clear()


def test_a_value_has_its_default_until_it_is_set() -> None:
    assert state.own is None
    assert state.settings == GenerationSettings()
    assert state.lens_kind == "logit"
    assert not State.own.is_set
    state.own = "0" * 32
    assert st.session_state["own"] == "0" * 32
    assert State.own.is_set
    assert State.own.take() == "0" * 32
    assert (state.own, State.own.is_set) == (None, False)


def test_what_is_changed_in_place_is_kept_from_the_first_look_on() -> None:
    state.log_chosen["loss"] = True
    assert state.log_chosen == st.session_state["log-chosen"] == {"loss": True}
    assert state.sweeps is state.sweeps


def test_a_misspelt_name_a_wrong_type_and_a_value_that_is_not_there_are_errors() -> None:
    with pytest.raises(AttributeError):
        state.onwer = "a"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = state.onwer  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="'sweep-count' cannot be of type str: '1'"):
        state.sweep_count = "1"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="'owner' cannot be of type NoneType"):
        state.owner = None  # type: ignore[assignment]
    with pytest.raises(LookupError, match="no 'history' yet"):
        _ = state.history


def test_only_what_a_reload_may_have_is_kept_for_it() -> None:
    """By hand: plans, looks, sweeps, lenses, heals, titles of sets and recipes, the room, whose work runs; no text, nothing of one run."""
    state.owner, state.own, state.prompt, state.sweep_count = "me", "0" * 32, "secret", 3
    assert to_keep() == {"owner": "me", "sweep-count": 3}
    assert {field.key for field in fields() if field.outlives} == {
        "owner", "histories", "refused", "sweeps", "sweep-count", "sweeps-shown", "least", "own-lenses",
        "own-sets", "trays", "looks", "recipes-run", "own-recipes", "heal-job", "heal-shown",
        "room-code-now", "room-key", "room-plan-number", "room-step", "room-follows",
    }  # fmt: skip
    bring_back({"owner": "them", "least": None})
    assert (state.owner, State.least.is_set) == ("them", False)


def test_a_session_holds_nothing_of_another_type_than_declared(open_app: Open) -> None:
    app = open_app(plan="0,3,1")
    for page in ("lens", "sweep", "skills", "compare", "models"):
        app.switch_page(f"../pages/{page}.py").run()
    held = {field.key: field for field in fields() if field.key in app.session_state}
    assert len(held) > 20
    for key, field in held.items():
        assert isinstance(app.session_state[key], field._kind), key


def test_declarations_have_keys_of_their_own_and_say_what_they_are_for() -> None:
    count = Counter(field.key for field in fields())
    assert set(count.values()) == {1}
    (body,) = (node.body for node in trees()[HERE].body if getattr(node, "name", "") == "State")
    for number, node in enumerate(body):
        if isinstance(node, ast.Assign) and isinstance(getattr(State, ast.unparse(node.targets[0]), None), Field):
            says = body[number + 1]
            assert isinstance(says, ast.Expr), ast.unparse(node)
            assert isinstance(says.value, ast.Constant), ast.unparse(node)


def literals(tree: ast.Module) -> list[tuple[str, bool]]:
    """Return the keys that stand as strings in a module, and whether each is one of the session's state itself."""
    found = []
    aliases = {"st.session_state"} | {
        ast.unparse(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "st.session_state"
        for target in node.targets
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in aliases:
            found.append((node.slice, True))
        elif isinstance(node, ast.Compare) and {ast.unparse(one) for one in node.comparators} & aliases:
            found.append((node.left, True))
        elif isinstance(node, ast.Call):
            of = ast.unparse(node.func).rsplit(".", 1)
            if of[0] in aliases and of[-1] in READS:
                found.append((node.args[0], True))
            found.extend(
                (one.value, False) for one in node.keywords if one.arg == "key" and name_of(node) not in DRAWS_UNKEYED
            )
    return [
        (node.value, read) for node, read in found if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_a_key_that_is_read_elsewhere_than_in_its_widget_is_declared_or_a_constant() -> None:
    read = {path: [key for key, is_read in literals(tree) if is_read] for path, tree in trees().items()}
    assert not {path: keys for path, keys in read.items() if keys}


def test_a_widgets_key_stands_in_one_place_and_is_none_of_the_sessions() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees().items():
        for key in {key for key, _ in literals(tree)} | constants(tree):
            places[key].append(path)
    assert {"undo", "sweep-start", "sweep-metric", "map"} <= set(places), "the sources are read"
    assert not {key: paths for key, paths in places.items() if len(paths) > 1}
    assert not set(places) & {field.key for field in fields()}


def constants(tree: ast.Module) -> set[str]:
    """Return the strings that a module gives names to and then uses as keys."""
    named = {
        ast.unparse(target): value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target, value in pairs(node)
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }
    used = {ast.unparse(one.value) for call in calls(tree) for one in call.keywords if one.arg == "key"}
    used |= {ast.unparse(node.slice) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    return {value for name, value in named.items() if name in used}


def pairs(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    """Return the targets of an assignment with their values, also where several are assigned at once."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            found += zip(target.elts, node.value.elts, strict=True)
        else:
            found.append((target, node.value))
    return found


def test_the_key_strings_are_those_that_tabs_and_browsers_know() -> None:
    assert declared.State.loaded_name.key == "loaded_name"
    assert declared.State.tab_token.key == "tab-token"
    assert declared.State.strip_edit.key == "edit"
