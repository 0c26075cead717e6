"""Model Surgery's server: `streamlit run app.py`, or `streamlit run app.py -- FOLDER` with a checkpoint of yours.

The installed package has a copy of this file, which the command `model-surgery` starts.

The script that runs for each session is `surgery_ui/main.py`. It lies beside no `pages` folder, because Streamlit
would start in its older multipage mode there.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from surgery_ui import startup
from surgery_ui.document import Document
from surgery_ui.document.guard import Guard
from surgery_ui.work import channel


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Open the first model in the background while the server starts."""
    startup.prewarm()
    yield


if Path(sys.argv[0]).name == Path(__file__).name:  # another server's arguments are not ours
    startup.offer(sys.argv[1:])
    startup.check_limits()
startup.quieten()
startup.share_memory()
app = st.App(
    Path(startup.__file__).with_name("main.py"),
    lifespan=lifespan,
    routes=[channel.ROUTE],
    on_script_error=startup.tell_of,
    middleware=[Middleware(Guard), Middleware(Document)],
)
