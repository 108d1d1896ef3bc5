"""Figures are drawn in memory, and closed after each test."""

import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    return plt.subplots()[1]
