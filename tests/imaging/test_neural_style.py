"""Style transfer by features: what each option does, and what is refused."""

import re
import warnings

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.images import transfer_style
from skgmmot.imaging.layer_features import on_axes, principal_axes

A = np.random.default_rng(7).normal(size=(12, 5))


def extractor(image):
    """Two layers: colors, and a bent linear map of blocks of 2 × 2 pixels."""
    height, width, _ = image.shape
    blocks = image.reshape(height // 2, 2, width // 2, 2, 3).swapaxes(1, 2).reshape(-1, 12)
    bent = np.tanh(blocks @ A)

    def vjp(cotangents):
        colors, of_blocks = cotangents
        bar = ((1 - bent**2) * of_blocks) @ A.T
        bar = bar.reshape(height // 2, width // 2, 2, 2, 3).swapaxes(1, 2).reshape(image.shape)
        return colors.reshape(image.shape) + bar

    return [image.reshape(-1, 3), bent], vjp


def pictures(dtype=np.float64):
    """A smooth content and a style of two kinds of colors."""
    rng = np.random.default_rng(0)
    content = 0.5 + 0.2 * np.sin(np.linspace(0, 6, 24))[:, None, None] * np.ones((24, 16, 3))
    content += 0.05 * rng.random(content.shape)
    style = np.where(rng.random((16, 20, 1)) < 0.4, [0.7, 0.6, 0.4], [0.1, 0.1, 0.3])
    style += 0.2 * rng.random(style.shape)
    return content.astype(dtype), style.astype(dtype)


def transferred(**options):
    return transfer_style(
        *pictures(), extractor, **{"n_components": 2, "n_steps": 60, "random_state": 0, **options}
    )


def test_each_layer_comes_near_the_style_and_the_content_stays():
    content, style = pictures()
    flow = transferred()
    assert flow.losses.shape == (61,) and flow.losses_by_layer.shape == (61, 2)
    assert (flow.losses_by_layer[-1] < 0.1 * flow.losses_by_layer[0]).all()
    assert np.corrcoef(flow.image.mean(axis=2).ravel(), content.mean(axis=2).ravel())[0, 1] > 0.7
    assert flow.image.min() >= 0 and flow.image.max() <= 1
    # By an EM of its own, on the image as it is: not only where these mixtures have followed it.
    fits = [
        DifferentiableGaussianMixture(1).fit(extractor(image)[0][1])
        for image in (flow.image, content, style)
    ]
    assert mixture_wasserstein(fits[0], fits[2]) < 0.4 * mixture_wasserstein(fits[1], fits[2])


def test_losses_are_the_weighted_sum_of_the_layers_and_of_the_mixtures_told():
    flow = transferred()
    np.testing.assert_allclose(flow.losses, flow.losses_by_layer @ flow.layer_weights, rtol=1e-12)
    last = [
        mixture_wasserstein(own, goal, squared=True)
        for own, goal in zip(flow.mixtures, flow.targets, strict=True)
    ]
    np.testing.assert_allclose(flow.losses_by_layer[-1], last, rtol=1e-9)
    assert repr(flow) == (
        f"<StyleFlow: 24 × 16, 2 layers, 60 steps, loss {flow.losses[0]:.6g} to "
        f"{flow.losses[-1]:.6g}>"
    )


def test_targets_are_mixtures_of_the_style_on_its_axes():
    flow = transferred(n_features=3)
    rows = extractor(pictures()[1])[0][1] @ flow.axes[1]
    largest = rows.var(axis=0).max()
    fitted = DifferentiableGaussianMixture(
        2, reg_covar=1e-2 * largest, fixed_weights=True, residual_tol=np.inf, random_state=0
    ).fit(rows)
    np.testing.assert_allclose(flow.targets[1].means, fitted.means_, rtol=1e-10)
    np.testing.assert_array_equal(flow.targets[1].weights, [0.5, 0.5])
    np.testing.assert_array_equal(flow.mixtures[1].weights, [0.5, 0.5])


def test_axes_are_principal_components():
    rows = np.random.default_rng(0).normal(size=(200, 4)) @ np.diag([1.0, 3.0, 0.5, 2.0]) + 5
    axes = principal_axes(rows, 2)
    components = PCA(2).fit(rows).components_
    np.testing.assert_allclose(abs(components @ axes), np.eye(2), atol=1e-10)
    np.testing.assert_allclose(principal_axes(rows, None).shape, (4, 4))
    assert principal_axes(rows, 9).shape == (4, 4)


def test_features_on_axes_and_their_vjp_are_a_pair():
    rng = np.random.default_rng(0)
    image = pictures()[0]
    axes = [principal_axes(rows, n) for rows, n in zip(extractor(image)[0], (2, 3), strict=True)]
    extract = on_axes(extractor, axes)
    rows, vjp = extract(image)
    assert [each.shape[1] for each in rows] == [2, 3]
    bars = [rng.normal(size=each.shape) for each in rows]
    direction, h = rng.normal(size=image.shape), 1e-6
    ahead, behind = (extract(image + sign * h * direction)[0] for sign in (1, -1))
    slope = sum(np.vdot(bar, a - b) for bar, a, b in zip(bars, ahead, behind, strict=True)) / 2 / h
    np.testing.assert_allclose(np.vdot(vjp(bars), direction), slope, rtol=1e-7)


def test_n_features_and_n_components_are_sizes_of_mixtures():
    flow = transferred(n_features=4, n_components=3, n_steps=1)
    assert [axes.shape for axes in flow.axes] == [(3, 3), (5, 4)]
    assert [goal.means.shape for goal in flow.targets] == [(3, 3), (3, 4)]
    assert transferred(n_features=None, n_steps=1).axes[1].shape == (5, 5)
    assert len(transferred(n_components=None, n_steps=1).targets[0].weights) == 3


def test_layers_weigh_the_same_or_by_their_channels_or_as_given():
    equal, dimension = (transferred(layer_weights=w, n_steps=5) for w in ("equal", "dimension"))
    np.testing.assert_allclose(equal.layer_weights * equal.losses_by_layer[0], 0.5, rtol=0.1)
    np.testing.assert_allclose(dimension.layer_weights, [1 / 9, 1 / 25])
    given = transferred(layer_weights=[1 / 9, 1 / 25], n_steps=5)
    np.testing.assert_array_equal(given.image, dimension.image)
    assert abs(given.image - equal.image).max() > 1e-3


def test_scale_of_weights_is_none_of_the_descent():
    """Adam has no unit, and neither has its floor."""
    one, large = (transferred(layer_weights=[w, w], n_steps=20) for w in (1.0, 1e6))
    np.testing.assert_allclose(large.image, one.image, atol=1e-9)


def test_estimator_fits_in_its_manner_and_is_not_changed():
    estimator = DifferentiableGaussianMixture(
        2, covariance_type="diag", reg_covar=1e-3, fixed_weights=True, random_state=0
    )
    before = str(estimator.get_params())
    flow = transferred(estimator=estimator, n_components=None, n_steps=5)
    assert {mixture.covariance_type for mixture in (*flow.targets, *flow.mixtures)} == {"diag"}
    assert str(estimator.get_params()) == before and not hasattr(estimator, "means_")
    assert len(flow.targets[0].weights) == 2
    with pytest.raises(ValueError, match="n_components=3, but estimator has n_components=2"):
        transferred(estimator=estimator, n_components=3, n_steps=1)


def test_em_of_the_image_starts_at_the_style():
    """Components have the order of the style's, whatever the seed of an initialization."""
    _, style = pictures()
    content = style[::-1] * 0.8 + 0.1
    for seed in range(6):
        flow = transfer_style(
            content, style, extractor, n_components=2, n_steps=1, random_state=seed
        )
        means, goals = flow.mixtures[0].means, flow.targets[0].means
        nearest = np.linalg.norm(means[:, None] - goals, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, [0, 1])


def test_learning_rate_is_the_longest_step():
    content = pictures()[0]
    steps = [
        abs(transferred(learning_rate=rate, n_steps=1).image - content).max()
        for rate in (0.01, 0.03)
    ]
    np.testing.assert_allclose(steps, [0.01, 0.03], rtol=0.05)  # less by Adam's floor


def test_callback_sees_each_step_and_may_end_it():
    seen = []

    def callback(step, image, loss):
        seen.append((step, image.shape, loss))
        assert not image.flags.writeable
        return step == 3

    flow = transferred(callback=callback)
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert [loss for *_, loss in seen] == flow.losses.tolist()


def test_seed_is_that_of_the_mixtures():
    one, same, other = (transferred(random_state=seed, n_steps=3) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.image, same.image)
    assert not np.array_equal(one.targets[1].means, other.targets[1].means)


def test_precision_and_integers():
    content, style = pictures(np.float32)
    options = {"n_components": 2, "n_steps": 5, "random_state": 0}
    assert transfer_style(content, style, extractor, **options).image.dtype == np.float32
    bytes_of = [(255 * image).round().astype(np.uint8) for image in pictures()]
    flow = transfer_style(*bytes_of, extractor, **options)
    expected = transfer_style(*(image / 255 for image in bytes_of), extractor, **options)
    np.testing.assert_array_equal(flow.image, expected.image)


def test_a_layer_that_sees_nothing_does_no_harm():
    def extract(image):
        features, vjp = extractor(image)
        return [*features, np.ones((9, 2))], lambda bars: vjp(bars[:2])

    flow = transfer_style(*pictures(), extract, n_components=1, n_steps=20, random_state=0)
    assert flow.losses_by_layer[0, 2] == 0 and np.isfinite(flow.layer_weights).all()
    assert flow.losses[-1] < 0.5 * flow.losses[0]


def test_fits_that_have_not_converged_are_told():
    estimator = DifferentiableGaussianMixture(2, max_iter=1, residual_tol=1e-12, random_state=0)
    with pytest.warns(ConvergenceWarning, match="style in layer [01]: EM did not converge") as told:
        transferred(estimator=estimator, n_components=None, n_steps=1)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transferred(n_steps=1)


def features_of(*features):
    return lambda image: (list(features), lambda bars: np.zeros(image.shape))


@pytest.mark.parametrize(
    "other, error, match",
    [
        (lambda image: [image], TypeError, "must return a tuple: .* got list"),
        (lambda image: ([image.reshape(-1, 3)], None), TypeError, "must return a tuple"),
        (features_of(), ValueError, "no features"),
        (features_of(np.ones(9)), ValueError, r"layer 0 must be floats.*float64 of shape \(9,\)"),
        (features_of(np.ones((9, 2), int)), ValueError, "layer 0 must be floats"),
        (features_of(np.full((9, 2), np.nan)), ValueError, "layer 0 contain NaN"),
        (features_of(np.ones((1, 2))), ValueError, "style has 1 positions in layer 0.* needs 2"),
        (
            lambda image: ([image.reshape(-1, 3)], lambda bars: bars[0]),
            ValueError,
            r"must return the shape of the image, \(24, 16, 3\); got \(384, 3\)",
        ),
        (
            lambda image: ([image.reshape(len(image), -1)], lambda bars: bars[0]),
            ValueError,
            r"layers of \[48\] channels, and the style of \[60\]",
        ),
    ],
)
def test_extractors_of_other_kinds_are_refused(other, error, match):
    with pytest.raises(error, match=match):
        transfer_style(*pictures(), other, n_components=2, random_state=0)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"layer_weights": "same"}, "must be 'equal', 'dimension' or one number.*'same'"),
        ({"layer_weights": [1.0]}, r"layer_weights must have shape \(2,\)"),
        ({"layer_weights": [1.0, 0.0]}, "positive and finite.*Leave layers"),
        ({"n_features": 0}, "n_features"),
        ({"n_steps": 0}, "n_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        transferred(**options)


def test_images_are_checked():
    content, style = pictures()
    with pytest.raises(ValueError, match=re.escape("style must be in [0, 1]")):
        transfer_style(content, 255 * style, extractor)


def test_an_image_that_ran_away_is_told():
    with pytest.warns(ConvergenceWarning, match="run away. Decrease learning_rate") as told:
        transferred(n_components=1, learning_rate=5.0, n_steps=1)
    assert told[0].filename == __file__
