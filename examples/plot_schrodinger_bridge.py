"""
Points and colors that travel: Schrödinger bridges between mixtures
===================================================================

A Schrödinger bridge is the most likely way for a cloud of diffusing particles to get from one
distribution to another. Between two Gaussians it has a closed form (Bunne et al. 2023). The plan of
MW2 puts such bridges together to a process from one mixture to another (Rapakoulias et al. 2024,
"GMMflow"). The law of the process is a known mixture at every time, so that nothing is trained.
Without noise it is the geodesic of MW2. We let points travel, and then the colors of a photograph.
"""

# %%
# From three components to four
# -----------------------------
# The noise ε is the standard deviation that a free particle gains from time 0 to time 1.

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from skimage.color import lab2rgb, rgb2lab
from sklearn.datasets import load_sample_image

from skgmmot import DifferentiableGaussianMixture, mixture_bridge, mixture_transport
from skgmmot.plotting import MixtureDisplay, component_colors

source = DifferentiableGaussianMixture.from_parameters(
    [0.3, 0.4, 0.3],
    [[-5.0, 2.5], [-6.0, 0.0], [-5.0, -2.5]],
    [[[0.5, 0.3], [0.3, 0.4]], [[0.2, 0.0], [0.0, 0.3]], [[0.5, -0.3], [-0.3, 0.4]]],
    random_state=0,
)
target = DifferentiableGaussianMixture.from_parameters(
    [0.25, 0.25, 0.25, 0.25],
    [[3.0, 3.0], [5.5, 1.0], [5.5, -1.0], [3.0, -3.0]],
    [[[0.6, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, 0.3]]] * 2,
    random_state=0,
)
NOISES = (0.0, 0.5, 1.5)
bridges = [mixture_bridge(source, target, epsilon=noise) for noise in NOISES]

# %%
# At ε = 0 the mixture on the way is that of the geodesic. With noise it is wider on the way, and
# the same at both ends.

geodesic = mixture_transport(source, target).interpolate(0.5)
for bridge in bridges:
    half = bridge.interpolate(0.5)
    difference = np.abs(half.covariances - geodesic.covariances).max()
    print(f"ε = {bridge.epsilon}: covariances half-way are {difference:.1e} off")

# %%
# Paths
# -----
# ``sample_paths`` starts at samples, and follows the drift and the noise. The same sixty points of
# the source, in the color of their component:

X, labels = source.sample(2000)
colors = component_colors(3)[labels]
start = time.perf_counter()
paths = [bridge.sample_paths(X, random_state=0) for bridge in bridges]
print(f"3 × 2000 paths of 50 steps: {time.perf_counter() - start:.1f} s")

figure, axes = plt.subplots(
    3, 1, figsize=(5.5, 9.5), sharex=True, sharey=True, layout="constrained"
)
for axis, bridge, path in zip(axes, bridges, paths, strict=True):
    for mixture in (source, target):
        MixtureDisplay.from_estimator(mixture, ax=axis, colors="0.4", fill=False)
    for i in range(0, len(X), len(X) // 60):
        axis.plot(*path[:, i].T, color=colors[i], lw=0.7)
    axis.set(title=f"ε = {bridge.epsilon}", aspect="equal")
plt.show()

# %%
# The law at every time
# ---------------------
# All 2000 points at five times, and the ellipses of the mixture that is their law. Whether they
# agree is told by the mean log density of the points, beside that of as many draws of the mixture
# itself; its standard error is about 0.03.

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
figure, axes = plt.subplots(
    3, len(TIMES), figsize=(12, 5.5), sharex=True, sharey=True, layout="constrained"
)
print("mean log densities of travelled points, and of draws")
for row, bridge in zip(axes, bridges, strict=True):
    path = bridge.sample_paths(X, times=TIMES, random_state=0)
    for axis, t, points in zip(row, TIMES, path, strict=True):
        mixture = DifferentiableGaussianMixture.from_mixture(
            bridge.interpolate(t),
            random_state=1,
        )
        drawn, _ = mixture.sample(len(X))
        title = f"t = {t}, ε = {bridge.epsilon}"
        print(f"{title}: {mixture.score(points):.2f}, {mixture.score(drawn):.2f}")
        axis.scatter(*points.T, s=1, color=colors)
        MixtureDisplay.from_estimator(mixture, ax=axis, colors="0.2", fill=False)
        axis.set(title=title, xlabel="", ylabel="", aspect="equal")
plt.show()

# %%
# Colors
# ------
# The colors of a photograph on their way to those of another one, in CIELAB, in which distances are
# those that an eye sees. Covariances have a floor of 3²: what is nearly one color need not be
# stretched. Without noise pixels of like colors stay together, and an edge goes through the sky,
# which two components of the target share. With noise every pixel is a particle of its own: the sky
# gets a grain, since its pixels part one by one.

images = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
photograph, palette = (rgb2lab(image[::4, ::4] / 255) for image in images)
pixels, other_pixels = photograph.reshape(-1, 3), palette.reshape(-1, 3)
mixtures = [
    DifferentiableGaussianMixture(6, reg_covar=3.0**2, random_state=0).fit(part)
    for part in (pixels, other_pixels)
]


def to_rgb(image):
    """Colors of CIELAB on a screen, which cannot show all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.clip(lab2rgb(image), 0, 1)


figure, axes = plt.subplots(2, len(TIMES), figsize=(12, 3.8), layout="constrained")
for row, noise in zip(axes, (0.0, 8.0), strict=True):
    bridge = mixture_bridge(*mixtures, epsilon=noise)
    start = time.perf_counter()
    path = bridge.sample_paths(pixels, times=TIMES, random_state=0)
    seconds = time.perf_counter() - start
    print(f"{len(pixels)} pixels, ε = {noise}: {seconds:.1f} s,", end=" ")
    print(f"mean log density under the target {mixtures[1].score(path[-1]):.2f}")
    for axis, t, moved in zip(row, TIMES, path, strict=True):
        axis.imshow(to_rgb(moved.reshape(photograph.shape)))
        axis.set(title=f"t = {t}, ε = {noise}", xticks=[], yticks=[])
plt.show()
drawn, _ = mixtures[1].sample(len(pixels))
print(f"draws of the target itself: {mixtures[1].score(drawn):.2f}")

# %%
# The pixels are no draws of the mixture that was fitted to them, and the flow keeps what makes them
# different. The more noise, the more of it is forgotten on the way: the mean log density comes
# closer to that of draws of the target.

# sphinx_gallery_thumbnail_number = 1
