"""Messages to instruct models: as the chat template and plain transformers put and answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import surgery_core as sc
from surgery_core.cli.options import main
from surgery_core.errors import RecipeError, SettingsError, TextError
from surgery_core.measure.generation import prompt_ids
from surgery_core.text import encode, token_bytes
from tests.tiny import build_model, build_tokenizer

TEMPLATE = (
    "<bos>{% for m in messages %}{% if m.role == 'system' and m.content == 'no' %}{{ raise_exception('No system') }}"
    "{% endif %}[{{ m.role }}] {{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
SETTINGS = sc.GenerationSettings(max_new_tokens=8, chat=True)


def chatting(**settings: Any) -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer


def test_a_message_is_put_as_the_template_says() -> None:
    text = sc.chat_text(chatting(), "Hello", "Be kind")
    assert text.text == "<bos>[system] Be kind<eos>\n[user] Hello<eos>\n[assistant]"
    assert text.formatted
    assert sc.chat_text(chatting(), "Hello").text == "<bos>[user] Hello<eos>\n[assistant]"


def test_its_tokens_are_those_of_transformers_and_none_is_added() -> None:
    tokenizer = chatting()
    messages = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    found = encode(tokenizer, sc.chat_text(tokenizer, "Hello", "Be kind"))
    assert found == expected
    assert found.count(257) == 1
    settings = sc.GenerationSettings(max_new_tokens=8, chat=True, system="Be kind")
    assert prompt_ids(build_model("llama"), tokenizer, "Hello", settings) == expected


def test_an_end_token_inside_of_a_chat_stays() -> None:
    tokenizer = chatting()
    tokenizer.chat_template = "{{ messages[0].content }}<eos>"
    assert encode(tokenizer, sc.chat_text(tokenizer, "Hi"))[-1] == 256


@pytest.mark.parametrize("plan", ["0-3", "0,2,3"])
def test_the_answer_is_that_of_plain_generate(plan: str) -> None:
    model, tokenizer = sc.operate(build_model("llama"), plan), chatting()
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    with torch.inference_mode():
        written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
    found = sc.complete(model, tokenizer, "Hello", SETTINGS)
    assert found.text == tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def test_bytes_of_a_chat_add_up() -> None:
    tokenizer = chatting()
    text = sc.chat_text(tokenizer, "Grüße")
    assert sum(token_bytes(tokenizer, text, encode(tokenizer, text))) == len(text.text.encode())


def test_a_lens_reads_a_chat() -> None:
    model, tokenizer = build_model("llama"), chatting()
    text = sc.chat_text(tokenizer, "Hello")
    read = sc.read_lens(sc.LogitLens(model), model, tokenizer, text)
    assert len(read.tokens) == len(encode(tokenizer, text))
    ids = torch.tensor([encode(tokenizer, text)])
    with torch.inference_mode():
        assert read.top_ids[-1, -1, 0] == model(ids).logits[0, -1].argmax()


def test_a_model_without_a_template_says_so() -> None:
    assert not sc.has_chat_template(build_tokenizer())
    with pytest.raises(TextError, match="no chat template"):
        sc.complete(build_model("llama"), build_tokenizer(), "Hello", SETTINGS)


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(TextError, match=r"refuses these messages \(No system\)\. Leave the system prompt empty\."):
        sc.chat_text(chatting(), "Hello", "no")


def test_a_system_prompt_has_a_bound() -> None:
    with pytest.raises(SettingsError, match="20,001 characters; at most 20,000"):
        sc.GenerationSettings(system="x" * 20_001)


def test_a_recipe_keeps_it() -> None:
    recipe = sc.Recipe("fable", "0-11", prompts=("Hello",), chat=True, system="Be kind")
    assert sc.Recipe.loads(recipe.dumps()) == recipe
    assert recipe.settings == sc.GenerationSettings(chat=True, system="Be kind")
    with pytest.raises(RecipeError, match="'generation.chat' must be true or false, not 1"):
        sc.Recipe.loads('version = 1\nmodel = "fable"\nplan = "0"\n[generation]\nchat = 1\n')
    with pytest.raises(RecipeError, match="'generation.top_k' must be a whole number, not True"):
        sc.Recipe.loads('version = 1\nmodel = "fable"\nplan = "0"\n[generation]\ntop_k = true\n')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "instruct"
    build_model("llama").save_pretrained(place)
    chatting().save_pretrained(place)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(place))
    return place


def test_the_command_line_chats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "instruct", "--plan", "0,2,3", "--prompt", "Hello", "--chat", "--system", "Be kind"]
    recipe = folder.parent / "chat.toml"
    short = ["--text", __file__, "--max-new-tokens", "4"]
    assert main(["run", *options, *short, "--save-recipe", str(recipe), "--unproved"]) == 0
    assert sc.Recipe.load(recipe).chat
    capsys.readouterr()
    assert main(["lens", *options, "--positions", "1", "--json", "--unproved"]) == 0
    assert "assistant" not in capsys.readouterr().err
    assert main(["run", "--model", "fable", "--plan", "0-11", "--prompt", "Hello", "--chat"]) != 0
    assert "no chat template" in capsys.readouterr().err
