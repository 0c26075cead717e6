"""Tables as files, read again by others."""

from __future__ import annotations

import csv
import io
import json
import math

import pandas as pd
import pytest

from surgery_core.errors import InputError
from surgery_core.keeping.tables import markdown, table_file

FRAME = pd.DataFrame(
    {
        "layer": ["L0", "L|1"],
        "kl": [0.1 + 0.2, math.nan],
        "n": [3, 4],
        "ratio": [math.inf, 1234.5678],
        "ok": [True, False],
    }
)


def test_csv_holds_every_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(table_file(FRAME, "csv").decode())))
    assert float(rows[0]["kl"]) == 0.30000000000000004
    assert rows[1]["kl"] == ""
    assert rows[1]["layer"] == "L|1"


def test_json_holds_every_digit_and_null_for_what_is_no_number() -> None:
    rows = json.loads(table_file(FRAME, "json"), parse_constant=lambda _: pytest.fail("not JSON"))
    assert rows[0] == {"layer": "L0", "kl": 0.30000000000000004, "n": 3, "ratio": None, "ok": True}
    assert rows[1]["kl"] is None


def test_parquet_is_read_by_pyarrow() -> None:
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(table_file(FRAME, "parquet"))).to_pydict()
    assert table["kl"][0] == 0.30000000000000004
    assert table["ratio"] == [math.inf, 1234.5678]
    assert table["layer"] == ["L0", "L|1"]


def test_markdown_is_a_table_on_github() -> None:
    assert markdown(FRAME).splitlines() == [
        "| layer | kl | n | ratio | ok |",
        "| --- | ---: | ---: | ---: | --- |",
        "| L0 | 0.3 | 3 | inf | True |",
        "| L\\|1 | - | 4 | 1,235 | False |",
    ]


def test_markdown_in_a_cell_stays_text() -> None:
    line = markdown(pd.DataFrame({"token": ["*a*\n<b>", "[x](y)"]})).splitlines()[2:]
    assert line == ["| \\*a\\* \\<b\\> |", "| \\[x\\](y) |"]


def test_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"'xlsx' is no kind of table; choose one of csv, json, parquet, md\."):
        table_file(FRAME, "xlsx")
