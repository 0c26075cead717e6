"""Train the byte-level BPE tokenizer: python -m training.tokenizer CORPUS.gz OUT_FOLDER."""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.settings import END_OF_TEXT, SETTINGS

# English clitics stay whole, digits stand alone (so that numbers have one spelling), line breaks
# never join with spaces, and runs of punctuation such as `,"` may become one token.
PIECES = (
    r"'(?:s|t|d|m|ll|ve|re)\b| ?\p{L}[\p{L}\p{M}]*| ?\p{N}"
    r"| ?[^\s\p{L}\p{N}]+|[\r\n]+|[^\S\r\n]+(?!\S)|[^\S\r\n]+"
)


def stories(path: Path) -> Iterator[str]:
    """Yield the stories of a corpus file, without the line breaks around them."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    return (story.strip("\n") for story in text.split(END_OF_TEXT) if story.strip())


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Learn the merges; all 256 bytes are in the vocabulary, so any UTF-8 text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap(tokenizer: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """Make it loadable by AutoTokenizer; nothing is added around a text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def main(corpus: str, out: str) -> None:
    """Train and save."""
    tokenizer = train_tokenizer(stories(Path(corpus)), SETTINGS.model.vocab_size)
    wrap(tokenizer, SETTINGS.model.context).save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
