"""Images that take on the patches of others."""

__all__: list[str] = []
