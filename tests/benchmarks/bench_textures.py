"""Textures from noise: how far their patches are from the reference's, and how long it takes.

    python tests/benchmarks/bench_textures.py [--quick]

Images of 128 × 128 pixels, patches of 4 × 4, 300 steps. The measure is the squared sliced W2
distance between all 6 × 6 patches of the texture and of the reference, on 200 random directions:
larger patches than those that were fitted. Beside it stands the same between two halves of the
reference, left and right, each half as large. Times are of the texture with K = 4 at three scales.

Below it, other ways to treat the weights of components, and one step of the flow with patches that
have many features: 8 × 8 pixels of three colors. Needs scikit-image.
"""

import time
import warnings
from functools import partial
from itertools import islice

import numpy as np
import ot
from _report import Table, arguments, heading, verdict
from skimage import data
from skimage.transform import downscale_local_mean
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d

from skgmmot import DifferentiableGaussianMixture
from skgmmot.images import synthesize_texture

OF_ONE_COMPONENT, GRAY_SECONDS, COLOR_SECONDS, STEP_SECONDS = 0.5, 20.0, 60.0, 1.0
SIZE = 128


def references():
    """Gray ones at half of their size, and three of colors."""
    for name in ("brick", "gravel", "grass"):
        image = downscale_local_mean(getattr(data, name)(), (2, 2)) / 255
        yield name, image[:SIZE, :SIZE]
    foliage = load_sample_image("china.jpg") / 255
    yield "foliage", foliage[299 : 299 + SIZE, 440 : 440 + SIZE]
    yield "tissue", data.immunohistochemistry()[30 : 30 + SIZE, :SIZE] / 255
    stars = downscale_local_mean(data.hubble_deep_field(), (2, 2, 1)) / 255
    yield "stars", stars[:SIZE, :SIZE]


def distance(a, b, size=6):
    """The squared sliced W2 distance between the patches of two images."""
    rows = [extract_patches_2d(image, (size, size)) for image in (a, b)]
    rows = [patches.reshape(len(patches), -1) for patches in rows]
    return ot.sliced_wasserstein_distance(*rows, n_projections=200, seed=0) ** 2


def keep_first(kept, step, image, loss):
    if step == 0:
        kept.append(image.copy())


def textures(n_steps):
    table = Table(
        reference="<10s", start="8.1e", K_1="8.1e", one_scale="9.1e", K_4="8.1e", halves="8.1e",
        K_4_by_K_1="10.2f", target="<6s", s_of_CPU="8.1f", seconds="8.1f", in_time="<7s",
    )  # fmt: skip
    for name, reference in references():
        fields = []
        found = {}
        for label, n_components, scales in (
            ("K=1", 1, [1, 2, 4]), ("mono", 4, [1]), ("K=4", 4, [1, 2, 4]),
        ):  # fmt: skip
            begin, begin_of_cpu = time.perf_counter(), time.process_time()
            flow = synthesize_texture(
                reference,
                n_components=n_components,
                scales=scales,
                n_steps=n_steps,
                random_state=0,
                callback=partial(keep_first, fields),
            )
            seconds = time.perf_counter() - begin
            of_cpu = time.process_time() - begin_of_cpu
            found[label] = distance(flow.image, reference)
        half = SIZE // 2
        ratio = found["K=4"] / found["K=1"]
        table.row(
            name,
            distance(np.clip(fields[0], 0, 1), reference),
            found["K=1"],
            found["mono"],
            found["K=4"],
            distance(reference[:, :half], reference[:, half:]),
            ratio,
            verdict(ratio, OF_ONE_COMPONENT, at_most=True),
            of_cpu,
            seconds,
            verdict(seconds, GRAY_SECONDS if reference.ndim == 2 else COLOR_SECONDS, at_most=True),
        )


def estimators(n_steps):
    """Fixed weights, as by default, against free ones and Sinkhorn EM: with the same floor."""
    print()
    kinds = {
        "fixed": {"fixed_weights": True},
        "free": {},
        "sinkhorn": {"fixed_weights": True, "e_step": "sinkhorn"},
    }
    table = Table(reference="<10s", weights="<10s", loss="8.1e", distance="8.1e", s_of_CPU="8.1f")
    for name, reference in islice(references(), 3):
        rows = extract_patches_2d(reference, (4, 4)).reshape(-1, 16)
        floor = 1e-4 * np.linalg.eigvalsh(np.cov(rows.T)).max()
        for kind, options in kinds.items():
            estimator = DifferentiableGaussianMixture(
                4, reg_covar=floor, residual_tol=np.inf, random_state=0, **options
            )
            begin = time.process_time()
            flow = synthesize_texture(
                reference, estimator=estimator, n_steps=n_steps, random_state=0
            )
            of_cpu = time.process_time() - begin
            table.row(name, kind, flow.losses[-1], distance(flow.image, reference), of_cpu)


def large_step(n_steps):
    """The median time between two steps, from the second on."""
    reference = data.immunohistochemistry()[30 : 30 + SIZE, :SIZE] / 255
    times = []
    synthesize_texture(
        reference,
        patch_size=8,
        scales=[1],
        n_steps=n_steps,
        random_state=0,
        callback=lambda *_: times.append((time.perf_counter(), time.process_time())),
    )
    seconds, of_cpu = np.median(np.diff(times[1:], axis=0), axis=0)
    print(
        f"\n{(SIZE - 7) ** 2} patches of 8 × 8 × 3, K = 4: a step takes {seconds:.2f} s "
        f"({of_cpu:.2f} s of CPU); wanted {STEP_SECONDS} s: "
        f"{verdict(seconds, STEP_SECONDS, at_most=True)}"
    )


def main():
    options = arguments(__doc__)
    heading()
    synthesize_texture(np.random.default_rng(0).random((40, 40)), n_components=1, n_steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits of targets that end early
        textures(50 if options.quick else 300)
        estimators(30 if options.quick else 200)
        large_step(5 if options.quick else 20)


if __name__ == "__main__":
    main()
