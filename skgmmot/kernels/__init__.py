"""The only code that loops over samples."""
