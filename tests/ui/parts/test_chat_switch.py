"""Messages to instruct models in the app: on where the model has a chat template, off at a click, kept in the link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import surgery_core as sc
from surgery_core.text import encode
from surgery_ui.session.address import Address
from tests.tiny import build_model, build_tokenizer
from tests.ui.conftest import Open
from tests.ui.support.reading import said, written

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


def chatting() -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def instruct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "instruct"
    build_model("llama").save_pretrained(folder)
    chatting().save_pretrained(folder)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder))
    return "instruct"


def answer(message: str, system: str = "", *, chat: bool = True) -> str:
    """Return what the model writes, from plain transformers."""
    model, tokenizer = build_model("llama"), chatting()
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": message}]
    ids = (
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        if chat
        else encode(tokenizer, sc.Text("t", message))
    )
    given = torch.tensor([ids])
    with torch.inference_mode():
        new = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=8)[
            0, len(ids) :
        ]
    # a page shows control characters as their pictures
    pictures = {number: 0x2400 + number for number in range(32) if chr(number) not in "\t\n\r"}
    return str(tokenizer.decode(new, skip_special_tokens=True)).translate(pictures)


def test_an_instruct_model_gets_a_message(open_app: Open, instruct: str) -> None:
    app = open_app(model=instruct, prompt="Hello", length="8")
    assert not app.exception
    assert answer("Hello") in written(app)[0]
    assert "Put to the model as a message." in said(app)
    assert app.toggle(key="chat-switch").value


def test_off_it_continues_plain_text_and_the_link_says_so(open_app: Open, instruct: str) -> None:
    app = open_app(model=instruct, prompt="Hello", length="8")
    app = app.toggle(key="chat-switch").set_value(False).run()
    assert answer("Hello", chat=False) in written(app)[0]
    assert app.query_params["chat"] in ("0", ["0"])
    assert "as a message" not in said(app)


def test_a_system_prompt_is_told_before(open_app: Open, instruct: str) -> None:
    app = open_app(model=instruct, prompt="Hello", length="8")
    app = app.text_area(key="chat-system").set_value("Be kind").run()
    assert answer("Hello", "Be kind") in written(app)[0]
    assert "after the system prompt “Be kind”" in said(app)
    assert "[system] Be kind" in app.code[0].value
    link = {name: "".join(app.query_params[name]) for name in app.query_params}
    again = open_app(**link)
    assert answer("Hello", "Be kind") in written(again)[0]


def test_a_model_without_a_template_shows_nothing_of_it(open_app: Open) -> None:
    app = open_app(model="fable")
    assert not [toggle for toggle in app.toggle if toggle.key == "chat-switch"]
    assert not app.session_state["settings"].chat


@pytest.mark.parametrize("chat", [None, True, False])
def test_an_address_keeps_it(chat: bool | None) -> None:
    address = Address(model="m", chat=chat, system="Be kind")
    assert Address.read(address.parameters()) == address


def test_an_address_that_says_something_else_is_named() -> None:
    assert Address.read({"chat": "perhaps"}).problems == (
        "The address has chat='perhaps'; allowed is 0 or 1. It was left out.",
    )
