"""
Style transfer by patches
=========================

The energy of :ref:`sphx_glr_auto_examples_plot_texture_synthesis.py` knows of patches and not of
where they are. A photograph that descends it takes on the patches of another image, its colors, its
grain, its strokes, and keeps of what it shows what these have room for. No network is needed, and
nothing is trained.
"""

# %%
# A cat and a tissue
# ------------------
# Both images come with scikit-image. ``strength`` tells how far to go on the MW2 geodesic from the
# mixture of the one's patches to that of the other's. Scales tell how large the structures are that
# change: with the finest one alone colors and grain, with all three also strokes.

import time

import matplotlib.pyplot as plt
from skimage import data
from skimage.transform import downscale_local_mean

from skgmmot.images import transfer_texture

content = downscale_local_mean(data.chelsea(), (2, 2, 1))[10:122, 50:190] / 255
style = data.immunohistochemistry()[30:158, :128] / 255
runs = {
    "half of the way": {"strength": 0.5},
    "all of the way": {},
    "finest scale alone": {"scales": [1]},
}
flows = {}
for name, options in runs.items():
    begin = time.perf_counter()
    flow = transfer_texture(content, style, n_steps=70, random_state=0, **options)
    flows[name] = flow
    print(f"{name}: {flow}, {time.perf_counter() - begin:.1f} s")

figure = plt.figure(figsize=(10, 5), layout="constrained")
half, whole, finest = flows
axes = figure.subplot_mosaic([["content", half, whole], ["style", finest, "losses"]])
pictures = {"content": content, "style": style}
pictures |= {name: flow.image for name, flow in flows.items()}
for name, picture in pictures.items():
    axes[name].imshow(picture)
    axes[name].set_title(name)
    axes[name].axis("off")
for scale, losses in zip((1, 2, 4), flows[whole].losses_by_scale.T, strict=True):
    axes["losses"].semilogy(losses, label=f"1/{scale} of the size")
axes["losses"].set(xlabel="step", ylabel="MW2² to the style", title=whole)
axes["losses"].grid(alpha=0.3)
axes["losses"].legend(fontsize=8)
figure.savefig("patch_style.png", dpi=170)
plt.show()

# %%
# Half of the way the cat has the tissue's colors and the first of its strokes, all of the way it
# is drawn in them. What the style has no room for goes: bright patches among dark ones, smooth
# ones among strokes.
