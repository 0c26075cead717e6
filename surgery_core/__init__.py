"""Layer surgery on causal language models: plans, views, measurements.

    import surgery_core as sc

    loaded = sc.load_model("fable")
    view = sc.operate(loaded.model, "0-4,6,5,7-11")
    print(sc.compare(loaded.model, view, loaded.tokenizer, sc.bundled_texts()).frame())

Names are loaded when they are first used, so that importing this package costs neither torch nor transformers. They are
listed in `__init__.pyi`, once; what they are called there is what stays, wherever in this package they are made.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    value = _load(name)
    if isinstance(value, (type, FunctionType)):
        value.__module__ = __name__
    setattr(sys.modules[__name__], name, value)
    return value
