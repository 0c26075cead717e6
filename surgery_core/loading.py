"""Models are loaded one after the other in a process.

While transformers loads a model, it takes a method off its own classes (`no_tie_weights`) and sets torch's default number
format, and puts both back afterwards. Of two loads at once, the one that ends last puts back what the other had changed:
from then on every model whose head shares the embedding's weights would have a random head.
"""

from __future__ import annotations

import threading

ONE_AT_A_TIME = threading.RLock()
"""Held around every `from_pretrained` of a model."""
