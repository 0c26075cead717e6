"""A gallery of two recipes for tests, of small studies, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

HARD = """version = 2
title = "How hard texts are"
question = "Is any text easy?"
model = "fable"
note = "Look at the hardest text."
do = "On the Sweep page choose 'Which layers matter?' and press Start."

[[own_texts]]
title = "One"
text = "The old woman had a cat."

[[own_texts]]
title = "Two"
text = "The fox went over the hill."

[[own_texts]]
title = "Three"
text = "A king sat on his golden chair."

[[own_texts]]
title = "Four"
text = "Rain fell on the roof all night."

[[own_texts]]
title = "Five"
text = "Nobody knew where the road went."

[[own_texts]]
title = "Six"
text = "She counted: one, two, three, four."

[study]
name = "losses"
times = 2

[paper]
title = "On hard texts"
by = "Somebody, 2024"
arxiv = "2406.19384"
where = "Table 2"
says = "Texts cost between one and three nats a token."
figure = "1 to 3 nats"
read = "abstract"

[claim]
says = "A token costs at least one nat."
at_least = 1

[meaning]
seen = "Texts are hard here too. The model is often surprised."
unseen = "Texts are easy here. The model is seldom surprised."
open = "Six texts do not tell."

[expected]
fable = "seen here too"
"""

EASY = """version = 2
title = "Are texts easy?"
question = "Does a token cost less than a nat?"
model = "fable"
texts = []

[[own_texts]]
title = "One"
text = "The old woman had a cat."

[sweep]
kind = "delete"

[study]
name = "losses"

[paper]
title = "A blog"
url = "https://example.org/easy"
says = "Texts are easy, somebody wrote."
read = "second hand"

[claim]
says = "A token costs less than a nat."
at_most = 1

[meaning]
seen = "Easy."
unseen = "Hard."
open = "One text is too little."

[expected]
fable = "too few texts to say"
"""


HARD_AS_WRITTEN = HARD.replace("[[own_texts]]", "texts = []\n\n[[own_texts]]", 1)
"""The first of the two as it lies in the folder: of its own texts alone."""


def write_gallery(folder: Path) -> Path:
    """Write the recipes, and a file beside them that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hard.toml").write_text(HARD_AS_WRITTEN, encoding="utf-8")
    (folder / "easy.toml").write_text(EASY, encoding="utf-8")
    (folder / "sources.toml").write_text("[hard]\nread = 'text'\n", encoding="utf-8")
    return folder
