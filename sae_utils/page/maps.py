"""The two maps as Bokeh figures without data, which the explorer's script fills.

In: nothing but names of sides. Out: the JSON of each figure, with identifiers that are the same every time; Bokeh's own
scripts, inline.
Never: data; a script from another machine.
"""

import json
import re
from typing import Any

from sae_utils.report import NULL

TOOLS = "pan,wheel_zoom,box_zoom,box_select,lasso_select,tap,reset"
SIZE = 420  # pixels, of the height
RANGE = (-3.0, 103.0)  # of both axes; coordinates lie between 0 and 100


def scripts() -> str:
    """BokehJS and its WebGL part."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh", "bokeh-gl"], log_level="error").js_raw)


def items() -> str:
    """JSON of the figures of both sides, fit to stand in a script."""
    made = json.dumps([_item(side) for side in "ab"])
    return renumbered(made).replace("<", "\\u003c")


def renumbered(made: str) -> str:
    """A JSON in which Bokeh's identifiers, which count all models of the process, are numbered as they appear."""
    numbers: dict[str, str] = {}
    return re.sub(r'"p\d+"', lambda found: numbers.setdefault(found[0], f'"p{len(numbers)}"'), made)


def _item(side: str) -> Any:
    from bokeh.core.types import ID
    from bokeh.embed import json_item

    return json_item(_figure(side), ID(f"map-{side}"))


def _figure(side: str) -> Any:
    from bokeh.models import ColumnDataSource, CustomJS, HoverTool, LinearColorMapper, Range1d
    from bokeh.plotting import figure

    ranges = [Range1d(start=RANGE[0], end=RANGE[1], name=f"{axis}-{side}") for axis in "xy"]
    made = figure(
        x_range=ranges[0], y_range=ranges[1], height=SIZE, sizing_mode="stretch_width", tools=TOOLS,
        active_drag="box_select", active_scroll=None, output_backend="webgl", toolbar_location="above",
        outline_line_color="#d9d9d9", name=f"figure-{side}",
    )  # fmt: skip
    made.axis.visible, made.grid.visible, made.toolbar.logo = False, False, None
    rest = ColumnDataSource({"x": [], "y": []}, name=f"rest-{side}")
    made.scatter("x", "y", source=rest, size=2, color=NULL, alpha=0.15, line_color=None)
    points = ColumnDataSource({"x": [], "y": [], "c": []}, name=f"points-{side}")
    mapper = LinearColorMapper(palette=[NULL], low=-0.5, high=0.5, name=f"colours-{side}")
    shown = made.scatter(
        "x", "y", source=points, size=6, fill_color={"field": "c", "transform": mapper}, line_color=None,
        fill_alpha=0.85, nonselection_fill_alpha=0.12, name=f"shown-{side}",
    )  # fmt: skip
    call = f"explorer.{{}}('{side}', {{}})"
    hover = CustomJS(code=call.format("hover", "cb_data.geometry, cb_data.index.indices"))
    made.add_tools(HoverTool(renderers=[shown], tooltips=None, visible=False, callback=hover))
    points.selected.js_on_change("indices", CustomJS(code=call.format("chosen", "cb_obj.indices")))
    for axis in ranges:
        for end in ("start", "end"):
            axis.js_on_change(end, CustomJS(code="explorer.moved()"))
    return made
