"""Two mixtures fitted together, tied by a transport penalty: pure functions of arrays."""
