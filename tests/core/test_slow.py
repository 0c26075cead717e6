"""The list of tests that take long names tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slow import ALWAYS, ROOT, slow_tests

pytest_plugins = ["pytester"]


def test_every_name_on_the_list_is_of_a_test() -> None:
    for name in slow_tests() | ALWAYS:
        file, function = name.split("::")
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), name
    assert not slow_tests() & ALWAYS


CASES = """
import pytest

@pytest.mark.matrix
@pytest.mark.parametrize("n", range(7))
def test_case(n): pass

@pytest.mark.matrix
def test_all_together(): pass

@pytest.mark.parametrize("n", range(4))
def test_long(n): pass

def test_short(): pass
"""


@pytest.mark.parametrize("of", [1, 3])
def test_shares_are_all_that_is_long_and_each_has_what_is_short(pytester: pytest.Pytester, of: int) -> None:
    pytester.makeini("[pytest]\nmarkers =\n  matrix\n  gallery")
    source = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
    begin, end = source.index("def pytest_addoption"), source.index('@pytest.fixture(scope="session", autouse=True)')
    head = "import pytest\n\ndef slow_tests(): return {'test_shares.py::test_long'}\n\n"
    pytester.makeconftest(head + source[begin:end])
    pytester.makepyfile(test_shares=CASES)
    seen: list[str] = []
    for at in range(1, of + 1):
        found = pytester.inline_run(f"--share={at}/{of}").listoutcomes()[0]
        names = [one.nodeid.split("::")[1] for one in found]
        assert "test_short" in names
        seen += [name for name in names if name != "test_short"]
    assert sorted(seen) == sorted([*(f"test_case[{n}]" for n in range(7)), *(f"test_long[{n}]" for n in range(4))])
    everything = pytester.inline_run().listoutcomes()[0]
    assert len(everything) == 13
