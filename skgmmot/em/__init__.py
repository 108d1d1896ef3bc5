"""EM as a map, and its derivatives. Pure functions of arrays."""
