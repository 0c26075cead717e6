"""Sets of one's own on the pages: what is picked is counted before it is used, chosen once, and kept by its digest."""

from __future__ import annotations

import io
import time
import zipfile

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.recipe import Recipe
from surgery_core.text import Text, texts_digest
from surgery_core.text_sources.found import own_set
from surgery_ui.session import own_texts
from surgery_ui.work import lens_jobs
from surgery_ui.work import plan_jobs as cached
from tests.ui.conftest import Open

FILES = {
    "one.txt": "The old woman had a cat.",
    "two.txt": "A fox came by.",
    "three.txt": "It rained.",
    "bad.txt": b"\xff",
}
TEXTS = ("The old woman had a cat.", "A fox came by.", "It rained.")


def packed(files: dict[str, str | bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def pick(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    """Upload files, and wait until their tokens are counted."""
    app.file_uploader(key="own-file").set_value(
        [(name, data, "application/octet-stream") for name, data in files]
    ).run()
    for _ in range(100):
        if "counting tokens" not in written(app):
            return app
        time.sleep(0.05)
        app.run()
    raise AssertionError(written(app))


def written(app: AppTest) -> str:
    return "\n".join(str(one.value) for one in [*app.markdown, *app.caption])


def errors(app: AppTest) -> str:
    """Return what is said to be wrong, without what keeps it from being read as markup."""
    return "\n".join(str(one.value) for one in app.error).replace("\\", "")


def use(app: AppTest, name: str | None = None) -> AppTest:
    if name is not None:
        app.text_input(key="own-name").set_value(name).run()
    return app.button(key="own-set-use").click().run()


def titles(app: AppTest) -> list[str]:
    """Return the titles of the perplexity table."""
    table = next(one.value for one in app.dataframe if "perplexity" in one.value or "perplexity_before" in one.value)
    return list(table["title"])


def test_what_is_picked_is_counted_before_it_is_used(open_app: Open) -> None:
    """A token a byte: the tokens of the three texts are their letters."""
    app = pick(open_app(), ("mine.zip", packed(FILES)))
    n_bytes = sum(map(len, TEXTS))
    assert f"**3 texts** · {n_bytes:,} tokens · {n_bytes:,} bytes" in written(app)
    left_out = next(one.value for one in app.dataframe if "Why" in one.value)
    assert list(left_out["Where"]) == ["bad.txt"]
    assert "not UTF-8" in left_out["Why"].iloc[0]
    assert len(titles(app)) == 12
    app = use(app, "Letters")
    assert not app.exception
    assert titles(app) == ["one.txt", "two.txt", "three.txt"]
    assert app.segmented_control(key="surgery-texts").value == "Letters"
    wanted = texts_digest([Text(name, text) for name, text in zip(FILES, TEXTS, strict=False)])[:32]
    assert app.query_params["texts"] == [wanted] or app.query_params["texts"] == wanted


def test_a_set_is_for_every_page_and_can_be_removed(open_app: Open) -> None:
    app = use(pick(open_app(), ("mine.zip", packed(FILES))))
    app.switch_page("../pages/sweep.py").run()
    assert app.segmented_control(key="sweep-texts").value == "mine"
    assert not app.exception
    app.switch_page("../pages/surgery.py").run()
    assert len(titles(app)) == 3
    button = next(one for one in app.button if str(one.key).startswith("own-set-remove"))
    button.click().run()
    assert app.segmented_control(key="surgery-texts").value == "Short texts"
    assert "mine" not in app.segmented_control(key="surgery-texts").options
    assert len(titles(app)) == 12


def test_sets_of_two_people_do_not_mix(open_app: Open) -> None:
    first = use(pick(open_app(), ("mine.zip", packed(FILES))), "Hers")
    second = open_app()
    assert second.segmented_control(key="surgery-texts").options == ["Short texts", "Stories"]
    use(pick(second, ("mine.zip", packed(FILES))), "His")
    first.run()
    assert first.segmented_control(key="surgery-texts").options == ["Short texts", "Stories", "Hers"]


def test_a_link_finds_a_set_on_the_server_and_says_where_it_does_not(open_app: Open) -> None:
    cached.keep_own_set(kept := own_set("Hers", [Text("One", "The cat sat."), Text("Two", "The dog ran.")]))
    app = open_app(texts=kept.name)
    assert app.segmented_control(key="surgery-texts").value == "Hers"
    assert titles(app) == ["One", "Two"]
    app = open_app(texts="0" * 32)
    assert "The chosen texts (00000000 ...) are not on this server" in errors(app)
    assert len(titles(app)) == 12


def test_as_papers_on_the_page(open_app: Open) -> None:
    """The tiny model's context is 128 tokens and a token is a byte, so the windows are 128 letters of the joined texts."""
    texts = [Text(f"T{number}", f"Sentence number {number} of a few. " * 5) for number in range(6)]
    cached.keep_own_set(kept := own_set("Hers", texts))
    joined = "\n\n".join(text.text for text in texts)
    app = open_app(texts=kept.name, cut="papers")
    assert not app.exception
    count, rest = divmod(len(joined), 128)
    assert titles(app) == [f"Window {number} of {count}" for number in range(1, count + 1)]
    assert f"cut into {count} windows of 128 tokens without overlap" in written(app)
    assert f"The last {rest:,} tokens fill no window" in written(app)
    app.segmented_control(key="surgery-texts-cut").set_value("Text by text").run()
    assert titles(app) == [text.title for text in texts]
    assert "cut" not in app.query_params


def test_few_tokens_for_a_window_are_said(open_app: Open) -> None:
    cached.keep_own_set(kept := own_set("Hers", [Text("One", "The cat sat.")]))
    app = open_app(texts=kept.name, cut="papers")
    assert "12 tokens, fewer than one window of 128" in errors(app)


def test_a_recipe_holds_the_set_and_brings_it_back(open_app: Open) -> None:
    chosen = own_set("Hers", [Text("One", "The cat sat."), Text("Two", "The dog ran.")])
    recipe = Recipe("fable", "0-3", text_set=ChosenSet.of(chosen), cut="each")
    app = open_app()
    app.session_state["keep"] = True
    app.run()
    app.text_area(key="keep-pasted").set_value(recipe.dumps()).run()
    assert app.segmented_control(key="surgery-texts").value == "Hers"
    assert titles(app) == ["One", "Two"]
    without = Recipe("fable", "0-3", text_set=ChosenSet("", "Theirs", "1" * 64, 7))
    app.text_area(key="keep-pasted").set_value(without.dumps()).run()
    assert "'Theirs' (7 texts, digest 111111111111), are not in it" in errors(app)
    assert app.segmented_control(key="surgery-texts").value == "Short texts"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.zip", b"PK\x03\x04 broken", "no .zip archive"),
        ("a.csv", b"x,y\n1,2\n", "no column 'text'"),
        ("a.jsonl", b"{}\n", "no text in a field 'text'"),
    ],
)
def test_files_without_a_text_are_explained(open_app: Open, name: str, data: bytes, said: str) -> None:
    app = open_app()
    app.file_uploader(key="own-file").set_value([(name, data, "application/octet-stream")]).run()
    assert not app.exception
    assert "No text was found" in errors(app)
    assert said in next(one.value for one in app.dataframe if "Why" in one.value)["Why"].iloc[0]
    assert len(titles(app)) == 12


def test_another_column_is_named(open_app: Open) -> None:
    app = open_app()
    data = "id,story\n1,The cat sat.\n2,The dog ran.\n"
    app.file_uploader(key="own-file").set_value([("a.csv", data.encode(), "text/csv")]).run()
    app.text_input(key="own-column").set_value("story").run()
    assert "**2 texts**" in written(app)


def test_ten_thousand_texts_are_bounded_and_that_is_said(open_app: Open) -> None:
    rows = "\n".join(f'{{"text": "Sentence number {number}."}}' for number in range(10_000))
    began = time.monotonic()
    app = pick(open_app(), ("many.jsonl", rows.encode()))
    assert time.monotonic() - began < 30
    assert "**1,000 texts**" in written(app)
    left_out = next(one.value for one in app.dataframe if "Why" in one.value)
    assert left_out["Why"].iloc[0].startswith("9,000 texts were left out; at most 1,000 texts")


def test_a_session_has_at_most_so_many_sets(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_texts, "MOST", 1)
    app = use(pick(open_app(), ("mine.zip", packed(FILES))))
    app = use(pick(app, ("more.zip", packed({"x.txt": "Something else is here."}))))
    assert "There are 1 sets of your own" in errors(app)


def test_a_lens_can_be_trained_on_a_set(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on is handed to the job."""
    given: list[tuple[str, ...]] = []

    def job(owner: str, loaded: object, texts: tuple[Text, ...], settings: object) -> None:
        given.append(tuple(text.text for text in texts))

    monkeypatch.setattr(lens_jobs, "training_job", job)
    app = use(pick(open_app(), ("mine.zip", packed(FILES))), "Hers")
    app.switch_page("../pages/lens.py")
    app.session_state["lens-panel"] = True
    app.run()
    source = app.segmented_control(key="lens-source")
    assert source.options == ["The bundled texts", "Hers", "My own"]
    source.set_value("Hers").run()
    next(one for one in app.button if one.label == "Train a lens").click().run()
    assert given == [TEXTS]
