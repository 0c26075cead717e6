"""Open a lens from a file or from the hub, keep it for this session, and save the one that reads."""

from __future__ import annotations

import streamlit as st

from surgery_core.errors import LensError, SettingsError, Stopped, SurgeryError
from surgery_core.lenses.archive import pack_lens, unpack_lens
from surgery_core.lenses.fitted import Fitted
from surgery_core.models.hub import is_hub_id
from surgery_core.models.opening import LoadedModel
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work import lens_jobs
from surgery_ui.work.lens_jobs import JACOBIAN, LOGIT
from surgery_ui.work.limits import limits

FILE, HUB, WHICH = "lens-file", "lens-hub", "lens-hub-which"
"""Keys of the fields."""
MAX_FILE_MB = 64
MAX_ID = 120
FROM_LIBRARY, FROM_NEURONPEDIA = "Tuned lens", "Jacobian lens"
"""What the hub is asked for: a lens of the tuned-lens library's collection, or of Neuronpedia's."""


LIBRARY = "For the tuned-lens library", "-pt.zip", "application/zip"
REFERENCE = "For the reference", ".pt", "application/octet-stream"
"""What else a lens is saved as: the button, the ending of the file's name, and its kind."""


def keep(loaded: LoadedModel, found: Fitted, title: str) -> None:
    """Keep a lens under a title of its own and read through it from now on."""
    own = state.own_lenses.setdefault(loaded.info.key, {})
    digest = lens_jobs.keep_lens(loaded, found)
    taken = {name for key, name in own.items() if key != digest}
    number = next(n for n in range(1, len(taken) + 2) if (title if n == 1 else f"{title} ({n})") not in taken)
    own[digest] = title if number == 1 else f"{title} ({number})"
    # The control that chooses the lens may have been drawn already in this run; it takes this over in the next.
    state.lens_wanted = digest


def open_panel(now: session.Experiment) -> None:
    """Show how a lens is opened from a file or the hub, and the buttons that save the one that reads."""
    st.markdown("**Open one**")
    st.file_uploader(
        "From a file",
        ["zip", "pt"],
        help="A zip that was saved here; or of config.json and params.pt, as the tuned-lens library writes them; or the "
        "file of a Jacobian lens, *.pt, as its reference writes it.",
        key=FILE,
        max_upload_size=MAX_FILE_MB,
        on_change=_open_file,
        args=(now,),
    )
    show_problem("lens-file")
    _hub(now)
    kind = state.lens_kind
    if kind == LOGIT:
        return
    st.markdown("**Save the one that reads now**")
    try:
        found = lens_jobs.fitted_of(now.loaded, kind)
    except LensError as error:
        st.error(present.plain(str(error)))
        return
    with st.container(horizontal=True):
        name = f"{now.loaded.info.name.replace('/', '-')}-lens"
        st.download_button("Download", lambda: pack_lens(found), f"{name}.zip", "application/zip", on_click="ignore")
        jacobian = lens_jobs.what_reads(kind) == JACOBIAN
        label, ending, mime = REFERENCE if jacobian else LIBRARY
        st.download_button(
            label, lambda: pack_lens(found, pickled=True), f"{name}{ending}", mime, on_click="ignore", type="tertiary"
        )


def _open_file(now: session.Experiment) -> None:
    """Open an uploaded lens; a bad file changes nothing."""
    file = st.session_state[FILE]
    if file is None:
        return session.set_problem("lens-file", None)
    try:
        keep(now.loaded, unpack_lens(file.getvalue(), file.name), file.name.rpartition(".")[0][:24])
    except SurgeryError as error:
        return session.set_problem("lens-file", error)
    session.set_problem("lens-file", None)


def _hub(now: session.Experiment) -> None:
    """Show the field for a lens's id on the hub; it is fetched in the background."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.text_input(
            "From the Hugging Face hub", key=HUB, placeholder="org/name", max_chars=MAX_ID,
            help="Id of a model that the tuned-lens library, or Neuronpedia's collection of Jacobian lenses, has a lens "
            "for; or of a repository that is a tuned lens.",
        )  # fmt: skip
        st.selectbox("Which", [FROM_LIBRARY, FROM_NEURONPEDIA], key=WHICH, width=150)
        st.button("Open", key="lens-hub-open", on_click=_fetch, args=(now,))
    show_problem("lens-hub")
    if state.lens_fetch is not None:
        _fetching()


def _fetch(now: session.Experiment) -> None:
    """Start to fetch a lens; what is no id is said beside the field."""
    name = st.session_state[HUB].strip()
    if not is_hub_id(name):
        problem = LensError(f"{name!r} is no id on the hub; write one such as EleutherAI/pythia-160m-deduped.")
        return session.set_problem("lens-hub", problem)
    try:
        limits().check_hub(name)
    except SettingsError as error:
        return session.set_problem("lens-hub", error)
    session.set_problem("lens-hub", None)
    wanted = st.session_state.get(WHICH, FROM_LIBRARY)
    fetch = lens_jobs.fetch_jacobian_job if wanted == FROM_NEURONPEDIA else lens_jobs.fetch_job
    state.lens_fetch = (fetch(now.owner, name), now.loaded, name)


@st.fragment(run_every=0.5)
def _fetching() -> None:
    """Wait for a lens from the hub, and take it over when it is there."""
    if state.lens_fetch is None:
        return
    job, loaded, name = state.lens_fetch
    job.look()
    if not job.done:
        st.caption(f"Fetching {present.plain(name)} …")
        return
    state.lens_fetch = None
    try:
        keep(loaded, job.result, name[:24])
    except Stopped:
        pass
    except SurgeryError as error:
        session.set_problem("lens-hub", error)
    st.rerun()
