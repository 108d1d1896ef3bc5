"""Optimal transport between Gaussian mixtures: pure functions of arrays."""
