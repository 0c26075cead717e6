"""Healing in the sidebar without a browser: from the button to a model that only its session has."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import nn

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.opening import load_model
from surgery_core.text import Text, TextSet
from surgery_ui.sidebar import heal
from surgery_ui.work import limits
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.healed import HEALED, HealedModels
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, plan, said, wait

FEW = tuple(
    Text(f"{one} {other}", f"The {one} ran to the {other} at night, and the {one} slept by the {other}.")
    for one in ("fox", "hen", "ox") for other in ("sea", "inn", "hill")
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heal, "MINUTES", {"1 min": 0.01})
        patch.setattr(heal, "_sets", lambda: {"Few": TextSet("few", "Few", "Few texts.", FEW)})
        yield


def ended(app: AppTest) -> AppTest:
    """Run a session until its heal has ended."""
    return wait(app, lambda: not any(button.key == "heal-stop" for button in app.button))


def begun(open_app: Open, notation: str) -> AppTest:
    app = open_app(plan=notation)
    app.button(key="heal-start").click().run()
    return app


@pytest.fixture(scope="module")
def done(open_app: Open) -> AppTest:
    """Return a session with a healed model."""
    return ended(begun(open_app, "0,3"))


def plain_loss(model: Any, tokenizer: Any, texts: tuple[Text, ...]) -> float:
    losses, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text.text)["input_ids"]])
        losses += float(nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return losses / count


def test_the_healed_model_is_the_one_that_was_trained(done: AppTest) -> None:
    found = done.session_state["heal-shown"]
    opened = HEALED.opened(done.session_state["owner"], found.model.name)
    held = found.report.lessons.held
    assert plain_loss(opened.model, opened.tokenizer, held) == pytest.approx(found.report.sides[-1].nats, rel=1e-5)
    assert opened.info.title == found.model.title
    assert opened.info.title.endswith(", 2 layers, healed")
    assert "/" not in opened.info.source
    assert found.report.made in opened.info.notes


def test_what_is_said_of_the_texts_held_out(done: AppTest) -> None:
    """By hand: the eighth of nine is held out."""
    lessons = done.session_state["heal-shown"].report.lessons
    assert [text.text for text in lessons.held] == [FEW[7].text]
    assert [text.text for text in lessons.trained] == [text.text for text in (*FEW[:7], FEW[8])]
    assert "Trained on 8 texts. The figures are of one that was not: ox inn." in said(done)
    assert "One of eight texts is never trained on and decides what is kept." in said(done)
    assert "Healed, against " in said(done)


def test_a_heal_ends_as_a_model_that_only_its_session_has(done: AppTest, open_app: Open, models_folder: Path) -> None:
    app = done
    assert not app.exception
    assert not errors(app)
    table = app.table[0].value
    assert list(table.index)[:2] == ["Base", "Cut"]
    assert list(table.index)[-1] == "Healed"
    loaded = load_model(str(models_folder / "fable"))
    base = plain_loss(loaded.model, loaded.tokenizer, FEW[7:8])
    assert float(table["Loss"]["Base"]) == pytest.approx(base, abs=6e-4)
    name = app.session_state["heal-shown"].model.name
    app.button(key="heal-open").click().run()
    assert not app.exception
    assert plan(app) == "0-1"
    assert app.selectbox(key="picker").value == name
    assert any("2 layers, healed" in option for option in app.selectbox(key="picker").options)
    assert cached.may_see(app.session_state["owner"], name)
    other = open_app(model=name)
    assert "is no healed model of this session" in errors(other)
    assert not any("healed" in option for option in other.selectbox(key="picker").options)
    assert not cached.may_see(other.session_state["owner"], name)
    with pytest.raises(ModelLoadError, match="no healed model of this session"):
        HEALED.opened("somebody else", name)


def test_a_stop_keeps_the_best_and_the_organiser_may_forbid_it(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heal, "MINUTES", {"1 min": 5.0})
    app = begun(open_app, "0,3")
    wait(app, lambda: any("Held-out loss" in one.value for one in app.caption))
    app.button(key="heal-stop").click().run()
    ended(app)
    assert app.session_state["heal-shown"].report.stopped
    app.button(key="heal-close").click().run()
    monkeypatch.setattr(heal, "limits", lambda: limits.Limits(training=False))
    app.run()
    assert app.button(key="heal-start").disabled


def test_what_cannot_be_healed_is_said_beside_the_button(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app = ended(begun(open_app, "0,(1|2),3"))
    assert "cannot be healed" in errors(app)
    assert "heal-start" not in {button.key for button in open_app().button}

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    app = ended(begun(open_app, "0,3"))
    assert "cannot be written: No space left on device" in errors(app)


def test_two_people_heal_at_once(open_app: Open) -> None:
    apps = [begun(open_app, notation) for notation in ("0,3", "0-1,3")]
    titles = {ended(app).session_state["heal-shown"].model.title.split(", ", 1)[1] for app in apps}
    assert titles == {"2 layers, healed", "3 layers, healed"}


def test_the_store_is_bounded_and_forgets_what_nobody_asks_for() -> None:
    now = [0.0]
    store = HealedModels(lambda: 1_000, idle=100, clock=lambda: now[0])

    def write(size: int) -> Any:
        def fill(path: Path) -> None:
            path.mkdir(parents=True)
            (path / "weights").write_bytes(b"x" * size)

        return fill

    made = [store.put("a", f"{number}", 200, write(200)) for number in range(4)]
    assert [one.size for one in store.of("a")] == [200] * 4
    newer = store.put("a", "4", 200, write(200))
    assert [one.name for one in store.of("a")] == [*(one.name for one in made[1:]), newer.name]
    assert not made[0].path.exists()
    with pytest.raises(SettingsError, match="healed_mb"):
        store.put("b", "x", 300, write(300))
    now[0] = 101.0
    assert store.put("b", "x", 300, write(300)).path.is_dir()
    assert store.of("a") == ()

    def fails(path: Path) -> None:
        path.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.put("b", "y", 300, fails)
    assert len(store.of("b")) == 1
    assert [one.name for one in (newer.path.parent).iterdir()] == [store.of("b")[0].name]
    store.close()
    assert not newer.path.parent.exists()
