"""Images that take on the patches of others, by mixtures of their patches and MW2."""

from .imaging.pictures import ImageFlow
from .imaging.synthesis import synthesize_texture
from .imaging.transfer import transfer_texture

__all__ = ["ImageFlow", "synthesize_texture", "transfer_texture"]
