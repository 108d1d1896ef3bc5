"""Which version this is, and where it is documented."""

__version__ = "0.1.0.dev0"
DOCUMENTATION = "https://skgmmot.github.io/skgmmot"
