"""Model Surgery's server: `streamlit run app.py`.

The script that runs for each session is `surgery_ui/main.py`. It lies beside no `pages` folder, because Streamlit
would start in its older multipage mode there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st

from surgery_ui import prewarm


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Open the default model in the background while the server starts."""
    prewarm.start()
    yield


app = st.App("surgery_ui/main.py", lifespan=lifespan)
