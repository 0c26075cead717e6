"""A person uploads an archive of texts, and the figures are of those."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser.driver import figures, settle

Visit = Callable[..., Any]
STORIES = [
    "Once upon a time there was a fox who lived at the edge of the wood, and every morning he went down to the river to see "
    "whether the ice had gone. ",
    "The old woman put the bread upon the table, and said to the boy that he might have a piece of it when the cat came "
    "home again from the mill. ",
    "There were three brothers, and the youngest of them was called a fool by the other two, because he gave his dinner to "
    "the birds of the air. ",
]


def perplexity(folder: Path, ids_of: Callable[[Any], list[list[int]]]) -> float:
    """Return exp of the mean loss over all tokens but the first of each piece, by plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    losses = []
    with torch.no_grad():
        for piece in ids_of(tokenizer):
            ids = torch.tensor([piece])
            logits = model(ids).logits[0, :-1].double()
            losses.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none"))
    return float(torch.cat(losses).mean().exp())


def one_by_one(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text * 12)["input_ids"] for text in STORIES]


def joined(tokenizer: Any) -> list[list[int]]:
    ids = tokenizer("\n\n".join(text * 12 for text in STORIES))["input_ids"]
    return [ids[at : at + 512] for at in range(0, len(ids) - 511, 512)]


def packed() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number, text in enumerate(STORIES):
            archive.writestr(f"mine/{number}.txt", text * 12)
        archive.writestr("mine/latin.txt", b"caf\xe9")
    return target.getvalue()


def shown(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def test_an_archive_is_counted_named_and_scored(visit: Visit, models: Path) -> None:
    page = visit()
    before = figures(page)[0]
    page.get_by_text("Your own texts", exact=True).click()
    upload = page.get_by_test_id("stFileUploaderDropzoneInput").last
    upload.set_input_files({"name": "mine.zip", "mimeType": "application/zip", "buffer": packed()})
    page.get_by_text("3 texts", exact=True).wait_for()
    page.get_by_text("1 thing left out").wait_for()
    assert figures(page)[0] == before
    name = page.get_by_label("Name", exact=True)
    name.fill("Tales")
    name.press("Enter")
    page.get_by_role("button", name="Use these texts").and_(page.locator(":enabled")).click()
    page.get_by_role("radio", name="Tales").or_(page.get_by_role("button", name="Tales")).first.wait_for()
    settle(page)
    assert figures(page)[0] == shown(perplexity(models / "fable", one_by_one))
    page.get_by_text("As papers do it", exact=True).first.click()
    page.get_by_text("2 windows of 512 tokens without overlap").wait_for()
    settle(page)
    assert figures(page)[0] == shown(perplexity(models / "fable", joined))
    query = parse_qs(urlsplit(page.url).query)
    assert query["cut"] == ["papers"]
    again = visit(f"/?texts={query['texts'][0]}&cut=papers")
    assert figures(again) == figures(page)
