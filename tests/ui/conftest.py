"""A tiny random model under the default's name, and the app on it without a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from surgery_ui.parts import chart_specs

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]


@pytest.fixture(scope="session", autouse=True)
def scanned_once() -> Iterator[None]:
    """Look through the installed packages for components once: every `AppTest` does it anew, a second or more each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(scope="session")
def models_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two models: the default's name, and another of the same kind."""
    folder = tmp_path_factory.mktemp("offered")
    for name in ("fable", "other"):
        shutil.copytree(tiny_folder, folder / name)
    return folder


@pytest.fixture(scope="module")
def open_app(models_folder: Path) -> Iterator[Open]:
    """Return the function that opens a session, with an address's parameters, and runs it once."""

    def open_session(page: str | None = None, **parameters: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "surgery_ui" / "main.py"), default_timeout=60)
        for name, value in parameters.items():
            app.query_params[name] = value
        app.run()
        if page is not None:
            app.switch_page(f"../pages/{page}.py").run()
        return app

    before = os.environ.get("MODEL_SURGERY_MODELS")
    os.environ["MODEL_SURGERY_MODELS"] = str(models_folder)
    yield open_session
    if before is None:
        del os.environ["MODEL_SURGERY_MODELS"]
    else:
        os.environ["MODEL_SURGERY_MODELS"] = before


@pytest.fixture(scope="session")
def by_hand(models_folder: Path) -> Callable[[list[int]], object]:
    """Return the function that builds the default model with these layers, without this package."""
    from torch import nn
    from transformers import AutoModelForCausalLM

    def build(layers: list[int]) -> object:
        model = AutoModelForCausalLM.from_pretrained(models_folder / "fable").eval()
        kept = nn.ModuleList([model.model.layers[index] for index in layers])
        for position, layer in enumerate(kept):
            layer.self_attn.layer_idx = position
        model.model.layers = kept
        model.config.num_hidden_layers = len(kept)
        return model

    return build


@pytest.fixture
def clickable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a box with what a click on each point sends in a chart's place: AppTest cannot click on charts."""
    sent = [None, *({"selection": {"point": [{"number": number}]}} for number in range(4))]

    def draw(specs: object, name: str, made_of: object, make: Callable[[], object], **chart: Any) -> None:
        make()
        st.selectbox(chart["alt"], sent, key=chart["key"], format_func=str, on_change=chart.get("on_select"))

    monkeypatch.setattr(chart_specs, "draw", draw)
