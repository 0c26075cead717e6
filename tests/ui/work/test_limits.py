"""What an organiser allows: the file, the environment, what is wrong with them, and what each limit says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_ui.work.limits import FILE_VARIABLE, KINDS, LEAST, LISTS, MOST, SPACES, Limits, read_limits

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "surgery.toml"


def given(tmp_path: Path, text: str, **environment: str) -> Limits:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_limits({FILE_VARIABLE: str(path), **environment})


def test_the_repositorys_file_has_every_key_with_its_default_and_a_comment() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    found = tomllib.loads(text)
    assert found | {name: tuple(found[name]) for name in LISTS} == asdict(Limits())
    for name in KINDS:
        above = text.split(f"\n{name} = ")[0].rsplit("\n\n", 1)[-1]
        assert above.startswith("# "), f"{name} has no comment of its own"


def test_without_a_file_everything_is_at_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_limits({}) == Limits()


def test_a_file_beside_the_server_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "surgery.toml").write_text('allowed = ["fable"]\ntokens = 64\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert read_limits({}) == Limits(allowed=("fable",), tokens=64)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("allowed", "fable, tiny", ("fable", "tiny")), ("allowed", "", ()), ("hub", "false", False), ("hub", "1", True),
        ("paths", "TRUE", True), ("tokens", "128", 128), ("download_mb", "0", 0), ("idle_minutes", " 5 ", 5),
    ],
)  # fmt: skip
def test_the_environment_goes_before_the_file(tmp_path: Path, name: str, text: str, value: Any) -> None:
    written = 'allowed = ["x"]\nhub = true\npaths = false\ntokens = 1\ndownload_mb = 1\nidle_minutes = 1\n'
    found = given(tmp_path, written, **{f"MODEL_SURGERY_{name.upper()}": text})
    assert getattr(found, name) == value


@pytest.mark.parametrize("one", fields(Limits), ids=lambda one: one.name)
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path: Path, one: Any) -> None:
    wrong = {tuple: '"fable"', bool: '"yes"', int: "-7", str: "7"}[KINDS[one.name]]
    with pytest.raises(SettingsError, match=rf"^{one.name} is .* in .*mine\.toml; give ") as caught:
        given(tmp_path, f"{one.name} = {wrong}\n")
    if one.name in LEAST:
        assert f"{LEAST[one.name]:,} to {MOST[one.name]:,}" in str(caught.value)
    if KINDS[one.name] in (bool, int):
        with pytest.raises(SettingsError, match=f"MODEL_SURGERY_{one.name.upper()}"):
            given(tmp_path, "", **{f"MODEL_SURGERY_{one.name.upper()}": "much"})


@pytest.mark.parametrize("value", ["true", "1.5", '"12"', "[1]", "10_000_000_000_000"])
def test_numbers_are_whole_and_bounded(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match="give a whole number"):
        given(tmp_path, f"tokens = {value}\n")


@pytest.mark.parametrize(
    "origin", ["", "example.org", "https://a.b; script-src *", "https://a.b\\n", "https://a b", "'self'"]
)
def test_sites_that_may_frame_the_app_are_origins_and_nothing_else(tmp_path: Path, origin: str) -> None:
    assert given(tmp_path, 'framed_by = ["https://a-1.org", "http://*.b:8080"]').framed_by[1] == "http://*.b:8080"
    with pytest.raises(SettingsError, match=r"give a list such as \[\"https://example.org\"\]"):
        given(tmp_path, f'framed_by = ["{origin}"]')


def test_a_space_is_shown_by_its_page(tmp_path: Path) -> None:
    assert given(tmp_path, "framed_by = []", SPACE_ID="me/app").framed_by == (SPACES,)
    assert given(tmp_path, 'framed_by = ["https://a.org"]', SPACE_ID="me/app").framed_by == ("https://a.org", SPACES)


def test_a_broken_and_a_missing_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"mine\.toml is not TOML: .*line 1"):
        given(tmp_path, "tokens = = 3\n")
    with pytest.raises(SettingsError, match=re.escape("none.toml cannot be read (No such file or directory)")):
        read_limits({FILE_VARIABLE: str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="'token', which is no limit"):
        given(tmp_path, "token = 3\n")


def test_each_limit_says_its_name_and_what_is_allowed() -> None:
    strict = Limits(allowed=("fable",), hub=False, sweep_plans=10, jobs=2, training=False)
    strict.check_model("fable", lambda name: True)
    with pytest.raises(ModelLoadError, match=r"'org/large' is not open to visitors .*allowed in surgery\.toml: fable"):
        strict.check_model("org/large", lambda name: False)
    offline = Limits(hub=False)
    offline.check_model("here", lambda name: name == "here")
    with pytest.raises(ModelLoadError, match=r"'org/large' is not on this server.*hub in surgery\.toml"):
        offline.check_model("org/large", lambda name: False)
    with pytest.raises(SettingsError, match=r"\(hub in surgery\.toml\)"):
        strict.check_hub("org/lens")
    strict.check_plans(10)
    with pytest.raises(SettingsError, match=r"11 plans, and this server allows 10 \(sweep_plans in"):
        strict.check_plans(11)
    strict.check_jobs(1)
    with pytest.raises(SettingsError, match=r"2 long runs going.*\(jobs in surgery\.toml\)"):
        strict.check_jobs(2)
    with pytest.raises(SettingsError, match=r"\(training in surgery\.toml\)"):
        strict.check_training()
    for check in (lambda: Limits().check_training(), lambda: Limits().check_hub("org/lens")):
        check()
