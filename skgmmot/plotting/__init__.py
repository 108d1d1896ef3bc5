"""Displays of mixtures, transport, flows, fits and their selection, drawn with matplotlib.

They work as scikit-learn's displays do: class methods ``from_…`` compute what is to be drawn and
draw it, ``plot`` draws it again, and ``ax_`` and ``figure_`` are where. matplotlib is needed when
something is drawn: ``pip install matplotlib``.
"""

from .convergence_display import ConvergenceDisplay
from .flow_display import FlowDisplay
from .mixture_display import MixtureDisplay
from .model_selection_display import ModelSelectionDisplay
from .palette import component_colors
from .simplex_display import SimplexDisplay
from .transport_display import TransportDisplay

__all__ = [
    "ConvergenceDisplay",
    "FlowDisplay",
    "MixtureDisplay",
    "ModelSelectionDisplay",
    "SimplexDisplay",
    "TransportDisplay",
    "component_colors",
]
