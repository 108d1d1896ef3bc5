"""What carries the layers of `functions` into other frameworks."""
