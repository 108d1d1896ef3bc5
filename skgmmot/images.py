"""Images that take on the patches of others, or the features that a network sees in them."""

from .imaging.neural_style import StyleFlow, transfer_style
from .imaging.pictures import ImageFlow
from .imaging.synthesis import synthesize_texture
from .imaging.transfer import transfer_texture

__all__ = ["ImageFlow", "StyleFlow", "synthesize_texture", "transfer_style", "transfer_texture"]
