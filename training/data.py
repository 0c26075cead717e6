"""Pack the corpus into token files, and deal out batches: python -m training.data CORPUS.gz HELDOUT.gz TOKENIZER OUT."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.settings import END_OF_TEXT, SETTINGS, DataSettings
from training.skill_sentences import documents
from training.tokenizer import stories

BLOCK = 512


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[np.ndarray]:
    """Return the tokens of each text with the end-of-text token behind it."""
    rows = tokenizer([text + END_OF_TEXT for text in texts], verbose=False)["input_ids"]
    return [np.array(row, dtype=np.uint16) for row in rows]


def save_ragged(path: Path, rows: list[np.ndarray]) -> None:
    """Save arrays of different lengths as one file."""
    ends = np.cumsum([len(row) for row in rows])
    np.savez(path, tokens=np.concatenate(rows), ends=ends)


def load_ragged(path: Path) -> list[np.ndarray]:
    """Load what `save_ragged` saved."""
    with np.load(path) as file:
        return np.split(file["tokens"], file["ends"][:-1])


def epoch_blocks(texts: list[np.ndarray], skills: list[np.ndarray], settings: DataSettings, epoch: int) -> np.ndarray:
    """Return one epoch as shuffled blocks `[n, BLOCK + 1]`: stories in a new order, skills among them."""
    rng = np.random.default_rng([settings.seed, epoch])
    wanted = settings.skill_share / (1 - settings.skill_share) * sum(map(len, texts))
    order = rng.permutation(len(skills))
    keep = int(np.searchsorted(np.cumsum([len(skills[i]) for i in order]), wanted))
    rows = texts + [skills[i] for i in order[:keep]]
    stream = np.concatenate([rows[i] for i in rng.permutation(len(rows))])
    first = int(rng.integers(BLOCK))
    count = (len(stream) - first - 1) // BLOCK
    starts = first + BLOCK * rng.permutation(count)
    return stream[starts[:, None] + np.arange(BLOCK + 1)]


def micro_batches(
    texts: list[np.ndarray], skills: list[np.ndarray], settings: DataSettings, epoch: int, at: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield for ever: the epoch, the block to go on from, and blocks `[n, BLOCK + 1]`."""
    size = settings.micro_tokens // BLOCK
    while True:
        blocks = epoch_blocks(texts, skills, settings, epoch)
        for start in range(at, len(blocks) - size + 1, size):
            yield epoch, start + size, torch.from_numpy(blocks[start : start + size].astype(np.int64))
        epoch, at = epoch + 1, 0


def windows(blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut blocks `[n, BLOCK + 1]` into inputs and targets `[n * BLOCK / length, length]`."""
    return blocks[:, :-1].reshape(-1, length), blocks[:, 1:].reshape(-1, length)


def main(corpus: str, heldout: str, tokenizer_folder: str, out: str) -> None:
    """Write stories.npz, aside.npz (stories kept back for a sanity check), heldout.npz and skills.npz."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    rows = encode(tokenizer, list(stories(Path(corpus))))
    every = round(1 / SETTINGS.data.aside_share)
    files = {
        "aside": rows[::every],
        "stories": [row for place, row in enumerate(rows) if place % every],
        "heldout": encode(tokenizer, list(stories(Path(heldout)))),
        "skills": encode(tokenizer, documents(SETTINGS.data.seed)),
    }
    for name, part in files.items():
        save_ragged(Path(out) / f"{name}.npz", part)


if __name__ == "__main__":
    main(*sys.argv[1:])
