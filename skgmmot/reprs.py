"""How results that hold arrays look: a line in a console, a table in a notebook."""

from html import escape

import numpy as np

# Larger arrays are shown by their first and last rows and columns, stacks of them by their shape.
_WHOLE, _EDGE = 50, 2
_LONGEST_LIST = 4


def short_repr(result):
    """What a result is, by its ``_summary()``: arrays would fill pages. For ``__repr__``."""
    return f"<{type(result).__name__}: {result._summary()}>"


def html_repr(result):
    """The same line, and a table of the public fields. For ``_repr_html_``."""
    names = getattr(result, "_fields", None) or vars(result)
    rows = "".join(
        f'<tr><th style="text-align: left; vertical-align: top">{escape(name)}</th>'
        f'<td style="text-align: left"><pre style="margin: 0">{escape(in_brief(value))}</pre></td>'
        "</tr>"
        for name, value in ((name, getattr(result, name)) for name in names if name[0] != "_")
    )
    return f"<p><code>{escape(repr(result))}</code></p><table>{rows}</table>"


def in_brief(value):
    """A value in a few lines, whatever its size."""
    if isinstance(value, np.ndarray):
        shape = f"{shape_of(value)}, {value.dtype}"
        if value.size > _WHOLE and value.ndim > 2:
            return shape
        digits = np.array2string(
            value, precision=4, threshold=_WHOLE, edgeitems=_EDGE, separator=", "
        )
        return f"{digits}\n{shape}"
    if type(value) is tuple:
        return "\n".join(map(in_brief, value))
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        return f"{len(value)} of {type(value[0]).__name__}"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def shape_of(array):
    """The shape of an array, in words."""
    return f"shape {np.shape(array)}"


def count(number, name):
    """A number of things: ``1 component``, ``2 components``."""
    return f"{number} {name}{'' if number == 1 else 's'}"
