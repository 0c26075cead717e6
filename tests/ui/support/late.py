"""A browser that draws the fields of a page late: what it then shows and sends, read off what the server said last.

A browser may miss what an interrupted run said. It draws each field with what the newest run says: the value that run
sets, or else the field's default. With the next click it sends that.
"""

from __future__ import annotations

from typing import Any

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.testing.v1 import AppTest

FIELDS = (
    "text_input", "text_area", "number_input", "selectbox", "multiselect", "checkbox", "toggle", "slider",
    "select_slider", "button_group",
)  # fmt: skip


def run_unseen(app: AppTest) -> AppTest:
    """Run the page for a browser that has not drawn any field yet."""
    return app._run(WidgetStates())


def run_drawn_late(app: AppTest) -> AppTest:
    """Run the page once more, for a browser that has just drawn all fields of the run before."""
    states = WidgetStates()
    states.widgets.extend(_sent(proto) for proto in protos(app))
    return app._run(states)


def protos(app: AppTest) -> list[Any]:
    """Return the messages of all keyed fields on the page."""
    return [field.proto for kind in FIELDS for field in app.get(kind) if field.key is not None]


def values(app: AppTest) -> dict[str, Any]:
    """Return what the session holds for each keyed field on the page, as far as it holds anything."""
    keys = [field.key for kind in FIELDS for field in app.get(kind) if field.key is not None]
    return {key: app.session_state[key] for key in keys if key in app.session_state}


def _sent(proto: Any) -> WidgetState:
    state, kind = WidgetState(id=proto.id), type(proto).__name__
    if kind in ("TextInput", "TextArea"):
        state.string_value = proto.value if proto.set_value else proto.default
    elif kind == "NumberInput":
        state.double_value = proto.value if proto.set_value else proto.default
    elif kind == "Checkbox":
        state.bool_value = proto.value if proto.set_value else proto.default
    elif kind == "Selectbox":
        if proto.set_value and proto.raw_value:
            state.string_value = proto.raw_value
        elif not proto.set_value and proto.HasField("default"):
            state.string_value = proto.options[proto.default]
    elif kind in ("MultiSelect", "ButtonGroup"):
        chosen = list(proto.raw_values) if proto.set_value else [_option(proto, at) for at in proto.default]
        state.string_array_value.data[:] = chosen
    elif kind == "Slider" and proto.options:
        chosen = list(proto.raw_value) if proto.set_value else [proto.options[int(at)] for at in proto.default]
        state.string_array_value.data[:] = chosen
    elif kind == "Slider":
        state.double_array_value.data[:] = list(proto.value if proto.set_value else proto.default)
    return state


def _option(proto: Any, at: int) -> str:
    option = proto.options[at]
    return option if isinstance(option, str) else option.content
