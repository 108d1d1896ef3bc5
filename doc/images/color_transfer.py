"""Makes the picture of the README: python doc/images/color_transfer.py"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from skgmmot import DifferentiableGaussianMixture, mixture_transport

WIDTH, GAP = 400, 8  # pixels

source, target = (load_sample_image(name) / 255 for name in ("china.jpg", "flower.jpg"))
a, b = (
    DifferentiableGaussianMixture(10, reg_covar=1e-4, random_state=0).fit(image.reshape(-1, 3))
    for image in (source, target)
)
moved = mixture_transport(a, b).map(source.reshape(-1, 3)).reshape(source.shape)

height = round(WIDTH * source.shape[0] / source.shape[1])
sheet = Image.new("RGB", (3 * WIDTH + 2 * GAP, height), "white")
for i, pixels in enumerate((source, moved, target)):
    image = Image.fromarray((255 * np.clip(pixels, 0, 1)).round().astype(np.uint8))
    sheet.paste(image.resize((WIDTH, height), Image.Resampling.LANCZOS), (i * (WIDTH + GAP), 0))
sheet.save(Path(__file__).with_suffix(".jpg"), quality=88, optimize=True)
