"""Pushes to a hub that runs here, with the hub's own client: what arrives, and what is said where it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from surgery_core.cli.options import main
from surgery_core.errors import ModelError
from surgery_core.keeping import push as pushing
from surgery_core.keeping.push import push
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate
from tests.core.support.push_hub import PushHub, serve_pushes

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
"""What the hub's client does with large files."""
TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PushHub]:
    """Run a hub, and have its client not wait between two tries."""
    with serve_pushes() as server:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "new"
    made.mkdir()
    (made / "README.md").write_text("---\ntags: [x]\n---\n# New\n", encoding="utf-8")
    (made / "model.safetensors").write_bytes(bytes(1000))
    return made


@pytest.mark.parametrize("lfs", [False, True])
def test_what_arrives_is_the_operated_model(
    lfs: bool, hub: PushHub, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    hub.lfs, hub.wait = lfs, {"commit": 0.3}
    # large files go another way, to a service that is not played here, unless that is switched off
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", lfs)
    asked = ["export", "--model", str(tiny_folder), "--plan", "2,0.mlp", "--to", str(tmp_path / "new"), "--no-figures"]
    assert main([*asked, "--push", "me/small", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["pushed"] == f"{hub.endpoint}/me/small"
    assert TOKEN not in said.out + said.err
    assert hub.tokens["commit"] == f"Bearer {TOKEN}"
    assert [(made["name"], made["organization"], made["visibility"]) for made in hub.created] == [
        ("small", "me", "private")
    ]
    assert bool(hub.large) is lfs
    saved = AutoModelForCausalLM.from_pretrained(hub.unpack(tmp_path / "arrived"), dtype=torch.float32)
    base, ids = load_model(str(tiny_folder), device="cpu").model, torch.arange(9)[None]
    torch.testing.assert_close(saved(ids).logits, operate(base, "2,0.mlp")(ids).logits)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        path.name for path in (tmp_path / "arrived").iterdir()
    }


def test_a_repository_that_is_there_gets_another_commit(hub: PushHub, folder: Path) -> None:
    hub.failing = {"create": 409}
    assert push(folder, "me/small") == f"{hub.endpoint}/me/small"
    assert hub.files["model.safetensors"] == bytes(1000)


SAID = {
    401: "the hub knows no valid token of yours; run `hf auth login`",
    403: "your token may not write there; make one that may, and run `hf auth login`",
    409: "the repository was changed or made at the same moment",
    500: "the hub answered with error 500; wait some minutes",
    0: "the hub cannot be reached, or the connection broke off; look at the network",
}


@pytest.mark.parametrize(
    ("step", "status"),
    [
        (step, status)
        for step in ("create", "preupload", "commit")
        for status in SAID
        if (step, status) != ("create", 409)
    ],
)
def test_what_the_hub_refuses_is_one_sentence_without_the_token(
    step: str, status: int, hub: PushHub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.failing = {step: status}
    with pytest.raises(ModelError) as caught:
        push(folder, "me/small", private=step != "commit")
    private = "" if step == "commit" else " --private"
    again = f"then push what is saved with `hf upload me/small {folder}{private}`."
    assert str(caught.value) == f"'me/small' was not pushed: {SAID[status]}; {again}"
    said = capsys.readouterr()
    assert TOKEN not in said.out + said.err
    assert not hub.files
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("step", ["batch", "put"])
def test_large_files_that_are_refused(
    step: str, hub: PushHub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.lfs, hub.failing = True, {step: 403}
    with pytest.raises(ModelError, match=r"was not pushed: your token may not write there"):
        push(folder, "me/small")
    assert TOKEN not in "".join(capsys.readouterr())


def test_a_hub_that_does_not_answer_is_not_waited_for(
    hub: PushHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "PATIENCE", 0.2)
    hub.wait = {"create": 1.5}
    begun = time.monotonic()
    with pytest.raises(ModelError, match="was not pushed: the hub does not answer; wait some minutes"):
        push(folder, "me/small")
    assert time.monotonic() - begun < 1.4


def test_offline_and_a_wrong_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"was not pushed: the hub is switched off \(HF_HUB_OFFLINE\); unset that"):
        push(folder, "me/small")
    assert main(["export", "--plan", "0", "--to", str(tmp_path / "other"), "--push", "../x"]) == 2
    assert "'../x' is no name of a repository" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
