"""Public functions: they check, call the rooms below, and wrap what comes back."""
