"""How results look: short, with what matters, whatever their size."""

from dataclasses import replace

import numpy as np
import pytest

from skgmmot import (
    DifferentiableGaussianMixture,
    FitCotangent,
    MixtureFlow,
    MixtureParameters,
    mixture_flow,
    mixture_transport,
    semirelaxed_transport,
)
from skgmmot.entropic import block_coordinate_descent
from skgmmot.images import synthesize_texture
from skgmmot.reprs import in_brief

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 2))
MIXTURE = DifferentiableGaussianMixture.from_parameters(
    [0.25, 0.75], [[0.0, 0.0], [1.0, 0.0]], [np.eye(2), np.eye(2)]
)
TARGET = ([1.0], [[3.0, 4.0]], [1.0])
CANDIDATES = MIXTURE, TARGET


@pytest.fixture(scope="module")
def found():
    """Every kind of result, of data that would fill pages."""
    many = MixtureParameters(np.full(500, 1 / 500), np.zeros((500, 30)), np.ones((500, 30, 30)))
    tangent = MIXTURE.vjp(X, (None, np.ones((2, 2)), None), mode="one_step")
    return {
        "parameters": many,
        "jacobian": MixtureParameters(*(np.zeros((*p.shape, 400, 2)) for p in MIXTURE.parameters_)),
        "transport": mixture_transport(many, replace(many, means=many.means + 1)),
        "flow": mixture_flow(X, TARGET, n_steps=20, keep_path=True, random_state=0),
        "semirelaxed": semirelaxed_transport(X, MIXTURE),
        "step": block_coordinate_descent(X, MIXTURE, n_steps=1)[0],
        "cotangent": tangent,
        "image": synthesize_texture(RNG.random((40, 40)), n_components=1, n_steps=2),
    }


NAMES = [
    "parameters", "jacobian", "transport", "flow", "semirelaxed", "step", "cotangent", "image",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_line_in_a_console_and_a_short_table_in_a_notebook(name, found):
    result = found[name]
    assert repr(result).startswith(f"<{type(result).__name__}: ")
    assert len(repr(result)) < 100 and "\n" not in repr(result)
    table = result._repr_html_()
    assert len(table) < 6000 and table.count("\n") < 60
    assert repr(result).replace("<", "&lt;").replace(">", "&gt;") in table  # escaped
    for field in getattr(result, "_fields", None) or vars(result):
        assert (f">{field}</th>" in table) == (field[0] != "_")


def test_parameters_say_their_size_and_type(found):
    assert repr(found["parameters"]) == "<MixtureParameters: 500 components, 30 features, full>"
    assert repr(MIXTURE.parameters_) == "<MixtureParameters: 2 components, 2 features, full>"
    tied = MixtureParameters([1.0], [[0.0]], [[1.0]], "tied")
    assert repr(tied) == "<MixtureParameters: 1 component, 1 feature, tied>"


@pytest.mark.parametrize(
    "parts, expected",
    [
        ((None, np.ones((3, 2)), None), "3 components, 2 features, no weights, no covariances"),
        ((np.ones(3), None, None), "3 components, no means, no covariances"),
        ((None, None, np.ones(4)), "spherical, no weights, no means"),
        ((None, None, None), "no weights, no means, no covariances"),
        ((np.ones(2), np.ones(2), None), "2 components, no covariances"),  # wrong, and no error
    ],
)
def test_parameters_in_part(parts, expected):
    cotangent = MixtureParameters(*parts)
    assert repr(cotangent) == f"<MixtureParameters: {expected}>"
    assert "None" in cotangent._repr_html_()


@pytest.mark.parametrize(
    "options, more",
    [
        ({}, ""),
        ({"reg": 0.5}, ", reg=0.5"),
        ({"reg_m": (2.0, np.inf)}, ", reg_m=(2, inf)"),
    ],
)
def test_transport_says_its_variant(options, more):
    transport = mixture_transport(*CANDIDATES, **options)
    start = f"<MixtureTransport: 2 to 1 component, distance {transport.distance:.6g}"
    assert repr(transport) == f"{start}{more}>"
    failed = replace(transport, converged=False)
    assert repr(failed) == f"{start}{more}, not converged>"


def test_flow_says_where_it_went(found):
    flow = MixtureFlow(X[:1, :1], MIXTURE, np.array([4.0, 0.25]))
    assert repr(flow) == "<MixtureFlow: 1 point with 1 feature, 1 step, loss 4 to 0.25>"
    assert "21 of MixtureParameters" in found["flow"]._repr_html_()


def test_others_say_what_they_hold(found):
    value = found["semirelaxed"].value
    assert repr(found["semirelaxed"]) == (
        f"<SemirelaxedTransport: 400 samples to 2 components, value {value:.6g}, epsilon 1>"
    )
    step = found["step"]
    assert f"400 samples to 2 components, objective {step.after_gaussians:.6g}" in repr(step)
    data, weight, initial, solve = found["cotangent"]  # still a tuple
    assert repr(FitCotangent(data, None, MIXTURE.parameters_, solve)) == (
        "<FitCotangent: data of shape (400, 2), initial_parameters>"
    )


def test_tables_show_numbers():
    table = MIXTURE.parameters_._repr_html_()
    assert "[0.25, 0.75]" in table and "shape (2, 2, 2), float64" in table and "[1., 0.]" in table


def test_values_in_brief():
    assert in_brief(np.arange(3)) == f"[0, 1, 2]\nshape (3,), {np.arange(3).dtype}"
    long = in_brief(np.arange(1000.0))
    assert "..., 998., 999." in long and len(long) < 60
    assert in_brief(np.zeros((9, 9, 9))) == "shape (9, 9, 9), float64"
    assert in_brief((1.23456789, None)) == "1.23457\nNone"
    assert in_brief([1, 2]) == "[1, 2]"
    assert in_brief(list(range(9))) == "9 of int"
