"""Features of layers of a module, as arrays, and the energy of an image against autograd."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, MixtureParameters
from skgmmot.imaging.energy import EnergyTerm, MixtureEnergy

torch = pytest.importorskip("torch")

from skgmmot.torch import feature_extractor, fit_mixture, mixture_wasserstein  # noqa: E402

LAYERS = ["0", "3"]


def network(dtype=torch.float64, in_place=False, n_channels=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(n_channels, 3, 3, padding=1),
        torch.nn.ReLU(inplace=in_place),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.Tanh(),
    ).to(dtype)


def picture(shape=(8, 12, 3), seed=1):
    return np.random.default_rng(seed).random(shape)


def cotangents(features, seed=2):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=rows.shape) for rows in features]


def test_features_are_what_layers_return_a_row_for_each_position():
    module, image = network(), picture()
    first, second = feature_extractor(module, LAYERS)(image)[0]
    assert (first.shape, second.shape) == ((96, 3), (24, 4))
    batch = torch.tensor(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        at = module[0](batch)[0, :, 5, 7]
        deep = module[:4](batch)[0, :, 2, 3]
    np.testing.assert_allclose(first[5 * 12 + 7], at.numpy(), rtol=1e-12)
    np.testing.assert_allclose(second[2 * 6 + 3], deep.numpy(), rtol=1e-12)


def test_vjp_agrees_with_finite_differences():
    extract, image = feature_extractor(network(), LAYERS), picture()
    features, vjp = extract(image)
    bars = cotangents(features)
    direction, h = np.random.default_rng(3).normal(size=image.shape), 1e-6
    ahead, behind = (extract(image + sign * h * direction)[0] for sign in (1, -1))
    slope = sum(np.vdot(bar, a - b) for bar, a, b in zip(bars, ahead, behind, strict=True)) / 2 / h
    np.testing.assert_allclose(np.vdot(vjp(bars), direction), slope, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by PyTorch itself
def test_vjp_is_the_transpose_of_the_forward_derivative():
    module, image = network(), picture()
    features, vjp = feature_extractor(module, LAYERS)(image)
    bars = cotangents(features)

    def rows(pixels):
        batch = pixels.permute(2, 0, 1)[None]
        return tuple(module[:end](batch)[0].flatten(1).T for end in (1, 4))

    direction = torch.randn(image.shape, dtype=torch.float64)
    _, tangents = torch.func.jvp(rows, (torch.tensor(image),), (direction,))
    pushed = sum(
        np.vdot(bar, dot.detach().numpy()) for bar, dot in zip(bars, tangents, strict=True)
    )
    np.testing.assert_allclose(np.vdot(vjp(bars), direction.numpy()), pushed, rtol=1e-10)
    np.testing.assert_array_equal(vjp(bars), vjp(bars))  # more than once


def test_layers_in_place_do_not_change_what_was_kept():
    features, vjp = feature_extractor(network(in_place=True), LAYERS)(picture())
    expected, expected_vjp = feature_extractor(network(), LAYERS)(picture())
    assert (features[0] < 0).any()
    for own, other in zip(features, expected, strict=True):
        np.testing.assert_array_equal(own, other)
    bars = cotangents(features)
    np.testing.assert_allclose(vjp(bars), expected_vjp(bars), rtol=1e-12)


def test_the_module_stays_as_it_is():
    module = network()
    features, vjp = feature_extractor(module, LAYERS)(picture())
    vjp(features)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())
    with torch.no_grad():  # a user's
        vjp(feature_extractor(module, LAYERS)(picture())[0])


def test_transform_comes_first():
    def transform(batch):
        return 2 * batch.flip(1) - 1

    image = picture()
    features, vjp = feature_extractor(network(), LAYERS, transform=transform)(image)
    expected, expected_vjp = feature_extractor(network(), LAYERS)(2 * image[:, :, ::-1] - 1)
    np.testing.assert_allclose(features[1], expected[1], rtol=1e-12)
    bars = cotangents(features)
    np.testing.assert_allclose(vjp(bars), 2 * expected_vjp(bars)[:, :, ::-1], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precisions_are_those_of_the_module_and_of_the_image(dtype):
    image = picture().astype(dtype)
    features, vjp = feature_extractor(network(torch.float32), LAYERS)(image)
    assert features[0].dtype == np.float32
    bars = cotangents(features)  # float64
    assert vjp(bars).dtype == dtype
    expected = feature_extractor(network(), LAYERS)(image)[1](bars)
    np.testing.assert_allclose(vjp(bars), expected, atol=1e-5)  # of float32


def test_gray_images_have_one_channel():
    features, vjp = feature_extractor(network(n_channels=1), LAYERS)(picture((8, 12)))
    assert features[0].shape == (96, 3) and vjp(features).shape == (8, 12)


def test_layers_may_return_rows():
    class Tokens(torch.nn.Module):
        def forward(self, batch):
            return batch.flatten(2).movedim(1, 2)

    module = torch.nn.Sequential(network(), Tokens())
    rows, same = feature_extractor(module, ["0", "1"])(picture())[0]
    np.testing.assert_array_equal(rows, same)


@pytest.mark.parametrize(
    "module, layers, error, match",
    [
        (print, ["0"], TypeError, "module must be a torch.nn.Module"),
        (network(), "03", TypeError, r"Pass \['03'\]"),
        (network(), ["0", "9"], ValueError, "no layer '9'.* 0, 1, 2"),
        (network(), [], ValueError, "at least one name"),
        (network(), ["0", "0"], ValueError, "each once"),
    ],
)
def test_names_are_checked(module, layers, error, match):
    with pytest.raises(error, match=match):
        feature_extractor(module, layers)


class Odd(torch.nn.Module):
    """Layers that are no layers of features of an image."""

    def __init__(self):
        super().__init__()
        self.idle, self.flat = torch.nn.Identity(), torch.nn.Flatten()
        self.pooled, self.indices = torch.nn.MaxPool2d(2, return_indices=True), torch.nn.Identity()
        self.twice = torch.nn.Identity()

    def forward(self, batch):
        self.flat(batch), self.pooled(batch)
        return self.twice(self.twice(batch))


@pytest.mark.parametrize(
    "layer, error, match",
    [
        ("idle", ValueError, r"\['idle'\] did not run"),
        ("twice", ValueError, "'twice' runs more than once"),
        ("flat", ValueError, r"shape \(1, channels, height, width\).*\(1, 288\)"),
        ("pooled", TypeError, "must return a tensor; it returns a tuple"),
    ],
)
def test_layers_without_features_of_an_image_are_refused(layer, error, match):
    module = Odd()
    with pytest.raises(error, match=match):
        feature_extractor(module, [layer])(picture())
    assert not any(one._forward_hooks for one in module.modules())


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(3)])
def test_layers_in_training_mode_are_refused(layer):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), layer)
    with pytest.raises(ValueError, match=r"'1'.* in training mode.* module.eval\(\)"):
        feature_extractor(module, ["0"])(picture())
    feature_extractor(module.eval(), ["0"])(picture())


@pytest.mark.parametrize("fixed_weights", [True, False])
def test_energy_and_gradient_are_those_of_autograd(fixed_weights):
    """Of the same steps of EM, by the functions of skgmmot.torch on the graph of the module."""
    module, image, weights = network(), picture(), [1.0, 3.0]
    rng = np.random.default_rng(5)
    targets = [
        MixtureParameters(np.full(2, 0.5), rng.normal(size=(2, d)), np.stack([np.eye(d)] * 2))
        for d in (3, 4)
    ]
    em = {"fixed_weights": fixed_weights, "reg_covar": 1e-3}
    terms = [
        EnergyTerm(
            None,
            target,
            DifferentiableGaussianMixture(
                2,
                weights_init=target.weights,
                means_init=target.means,
                precisions_init=target.covariances,
                max_iter=1,
                **em,
            ),
            weight,
        )
        for target, weight in zip(targets, weights, strict=True)
    ]
    at = MixtureEnergy(terms, feature_extractor(module, LAYERS))(image)

    pixels = torch.tensor(image, requires_grad=True)
    batch = pixels.permute(2, 0, 1)[None]
    energy = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of single steps
        for end, target, weight in zip((1, 4), targets, weights, strict=True):
            rows = module[:end](batch)[0].flatten(1).T.contiguous()
            mixture = tuple(map(torch.tensor, target))
            with torch.no_grad():
                mixture = fit_mixture(rows, initial=mixture, max_iter=1, **em)
            mixture = fit_mixture(rows, initial=mixture, max_iter=1, mode="one_step", **em)
            energy = energy + weight * mixture_wasserstein(mixture, target, squared=True)
        energy.backward()
    np.testing.assert_allclose(at.value, energy.item(), rtol=1e-10)
    scale = pixels.grad.abs().max().item()
    np.testing.assert_allclose(at.gradient, pixels.grad.numpy(), atol=1e-9 * scale)


@pytest.mark.parametrize("image", [np.zeros((8, 12, 3), np.uint8), np.zeros((1, 8, 12, 3))])
def test_images_are_arrays_of_floats(image):
    with pytest.raises(ValueError, match=r"image must hold floats.* got .* of shape \("):
        feature_extractor(network(), LAYERS)(image)
