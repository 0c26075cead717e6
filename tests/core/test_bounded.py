"""Files made to take minutes or gigabytes: refused within a second, in a sentence, whatever reads them."""

from __future__ import annotations

import bz2
import io
import json
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core import bounded, load_model
from surgery_core.bounded import MOST_DEEP, Unreadable, read_json, read_toml, read_yaml
from surgery_core.errors import LensError, SurgeryError
from surgery_core.keeping.mergekit import from_mergekit
from surgery_core.lenses.archive import unpack_lens
from surgery_core.models.opening import LoadedModel
from surgery_core.recipes.recipe import Recipe
from surgery_core.sweeps.importance_file import read_result
from surgery_core.text_sources.files import read_files
from surgery_core.workshops.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
SOON = 3.0
"""Seconds: one, on a machine that does three things at a time. What is refused here took 35 and 88 without a bound."""
TOML = {
    "lists": "a=" + "[" * 90_000,
    "tables": "a=" + "{a=" * 20_000,
    "a dotted key": "a=1\nb" + ".b" * 40_000 + "=1",
    "a dotted header": "[" + "a." * 30_000 + "a]",
    "a dotted key within": "a={a" + ".a" * 40_000 + "=1}",
    "quoted parts": '"a"' + '."a"' * 20_000 + "=1",
    "tables without end": "[[a]]\n" * 400_000,
    "a list without end": "a=[" + "1," * 1_000_000,
    "digits": "a=" + "9" * 90_000,
    "half a character": "a='\ud800'",
    "a text without end": 'a="""' + '\\"""' * 20_000,
}
YAML = {
    "lists": "[" * 90_000,
    "lists in lines": "[\n" * 45_000,
    "tables": "{a: " * 20_000,
    "lists of lists": "- " * 40_000,
    "anchors": "a: &a [x]\nb: [" + ",".join(["*a"] * 9_000) + "]",
    "keys without end": "\n".join(f"k{at}: 1" for at in range(8_000)),
    "digits": "a: " + "9" * 90_000,
    "half a character": "a: \ud800",
    "a boolean that is none": "a: !!bool x",
    "a number of nothing": "a: !!int ''",
    "Python": "!!python/object/apply:os.system ['echo']",
}
LONG = "[" * 1_000_000


@pytest.fixture(scope="module")
def fable() -> LoadedModel:
    return load_model("fable")


def soon(read: Callable[[], object], *errors: type[Exception]) -> str:
    began = time.thread_time()  # of the processor: what else the machine does is no fault of the reader
    with pytest.raises(errors or SurgeryError) as caught:
        read()
    assert time.thread_time() - began < SOON
    assert 10 < len(str(caught.value)) < 2_000
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_recipes_and_workshops(text: str) -> None:
    soon(lambda: Recipe.loads(text))
    soon(lambda: Workshop.read(text))


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_merges(text: str, fable: LoadedModel) -> None:
    soon(lambda: from_mergekit(text, fable))


@pytest.mark.parametrize("text", [LONG, '{"sweep": ' + LONG, "{" * 100_000, "a,b\n" * 500_000, '"' * 1_000_001])
def test_results_of_sweeps(text: str) -> None:
    soon(lambda: read_result(text, "file"))


def test_lines_of_json() -> None:
    found = read_files([("mine.jsonl", (LONG + "\n" + '{"text": "A mouse."}').encode())])
    assert [text.text for text in found.texts] == ["A mouse."]


def test_what_is_deep_and_what_has_many_parts_is_said_and_what_is_not_is_read() -> None:
    deep, flat = "a=" + "[" * (MOST_DEEP + 1), "a=" + "[" * MOST_DEEP + "]" * MOST_DEEP
    assert "nested more than 32 levels" in soon(lambda: read_toml(deep), Unreadable)
    assert read_toml(flat) == tomllib.loads(flat)
    # what stands in texts and comments counts nothing
    text = "a = '''" + "a." * 500 + "[" * 500 + "'''\nb = \"" + "{." * 500 + '" # ' + "[." * 500
    assert read_toml(text) == tomllib.loads(text)
    assert "more than 100,000 parts" in soon(lambda: read_toml("a=[" + "1," * 100_001 + "]"), Unreadable)
    assert read_yaml("a: [1, {b: '[[[['}]") == {"a": [1, {"b": "[[[["}]}
    assert read_json('{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_that_come_along_are_within_the_bounds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert read_toml(text) == tomllib.loads(text)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["C"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["C"])), inner),
    max_leaves=20,
)


@settings(max_examples=30)
@given(PLAIN)
def test_yaml_is_what_its_own_reader_makes_of_it(value: Any) -> None:
    text = yaml.safe_dump(value)
    assert read_yaml(text) == yaml.safe_load(text) == value


def zipped(packing: int = zipfile.ZIP_DEFLATED, **entries: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("_", ".", 1), content)
    return data.getvalue()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_would_be_unpacked_as_a_whole_is_not_unpacked(packing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(packing, config_json=b"\0" * 50_000_000)
    assert len(data) < 50_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    assert "ordinary .zip" in soon(lambda: unpack_lens(data))
    found = read_files([("mine.zip", data.replace(b"config.json", b"config.text"))])
    assert not found.texts
    assert "ordinary .zip" in " ".join(map(str, found.problems))


def test_a_lens_is_unpacked_up_to_its_bounds() -> None:
    config = b'{"a": "' + b" " * 2_000_000 + b'"}'
    assert "config.json in the archive has more than 1,000,000 bytes" in soon(
        lambda: unpack_lens(zipped(config_json=config))
    )
    deep = zipped(config_json=LONG.encode()[:900_000])
    assert "not valid JSON" in soon(lambda: unpack_lens(deep))
    whole = bytearray(zipped(config_json=b'{"lens_type": "linear"}' * 40))
    whole[60] ^= 0xFF
    assert "damaged" in soon(lambda: unpack_lens(bytes(whole)))


def saved(content: object) -> bytes:
    data = io.BytesIO()
    torch.save(content, data)
    return data.getvalue()


def test_a_lens_whose_file_says_more_numbers_than_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = torch.zeros(1, dtype=torch.float16).expand(90_000, 90_000)
    content = saved({"J": {0: wide}, "d_model": 90_000, "n_prompts": 1, "source_layers": [0]})
    assert len(content) < 5_000
    assert "not all in the file" in soon(lambda: unpack_lens(content, "lens.pt"), LensError)
    config = {
        "base_model_name_or_path": "x", "d_model": 90_000, "num_hidden_layers": 1, "bias": True, "lens_type": "linear_tuned_lens",
    }  # fmt: skip
    state = {"0.weight": wide, "0.bias": torch.zeros(1, dtype=torch.float16).expand(90_000)}
    data = zipped(config_json=json.dumps(config).encode(), params_pt=saved(state))
    assert "not all in the file" in soon(lambda: unpack_lens(data), LensError)


def test_what_torch_has_saved_is_never_compressed(tmp_path: Path) -> None:
    plain = saved({"J": {0: torch.zeros(8, 8)}, "d_model": 8, "n_prompts": 1, "source_layers": [0]})
    assert not bounded.is_packed(plain)
    assert unpack_lens(plain, "lens.pt").d_model == 8
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(plain)) as old, zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert "compressed" in soon(lambda: unpack_lens(data.getvalue(), "lens.pt"), LensError)
    assert not bounded.is_packed(bz2.compress(plain))
