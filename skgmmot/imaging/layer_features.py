"""Features of an image in several layers, checked, and on the principal axes of a style.

An extractor is a user's function of an image: a list of arrays Φ_ℓ of n_ℓ rows of d_ℓ channels, and
a function that pulls a list of their cotangents back to the image. With U_ℓ of orthonormal columns,

    Ψ_ℓ = Φ_ℓ U_ℓ,    a cotangent C_ℓ of Ψ_ℓ is C_ℓ U_ℓᵀ of Φ_ℓ.
"""

import numpy as np


def principal_axes(rows, n_axes):
    """U, the directions of largest variance of rows about their mean: (d, r), with r ≤ d."""
    centered = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    return axes[:, ::-1][:, :n_axes]


def on_axes(extract, all_axes):
    """The features Ψ, and their vector-Jacobian product."""

    def extract_on_axes(image):
        features, vjp = extract(image)
        rows = [own @ axes for own, axes in zip(features, all_axes, strict=True)]

        def vjp_on_axes(cotangents):
            return vjp([bar @ axes.T for bar, axes in zip(cotangents, all_axes, strict=True)])

        return rows, vjp_on_axes

    return extract_on_axes


def checked(extractor):
    """An extractor of which each result is checked, and its features are float64."""

    def extract(image):
        found = extractor(image)
        if not (isinstance(found, tuple) and len(found) == 2 and callable(found[1])):
            raise TypeError(
                "extractor must return a tuple: a list of arrays of shape (positions, channels), "
                f"and a function that pulls their cotangents back; got {type(found).__name__}."
            )
        vjp = found[1]
        features = [_checked_rows(rows, index) for index, rows in enumerate(found[0])]
        if not features:
            raise ValueError("extractor: it returns no features. Let it return one layer at least.")

        def checked_vjp(cotangents):
            gradient = np.asarray(vjp(cotangents), dtype=image.dtype)
            if gradient.shape != image.shape:
                raise ValueError(
                    f"extractor: its vjp must return the shape of the image, {image.shape}; got "
                    f"{gradient.shape}."
                )
            return gradient

        return features, checked_vjp

    return extract


def refuse_few_positions(features, least, name):
    """Whether an image has enough positions in each layer to fit a mixture."""
    for index, rows in enumerate(features):
        if len(rows) < least:
            raise ValueError(
                f"{name} has {len(rows)} positions in layer {index}; a mixture needs {least} at "
                "least. Use a larger image, leave the layer out, or decrease n_components."
            )


def refuse_other_layers(features, others):
    """Whether content and style have features in the same layers."""
    d, d_other = ([rows.shape[1] for rows in each] for each in (features, others))
    if d != d_other:
        raise ValueError(
            f"extractor: the content has layers of {d} channels, and the style of {d_other}. They "
            "must be the same: are both images in color?"
        )


def _checked_rows(rows, index):
    rows = np.asarray(rows)
    if rows.dtype.kind != "f" or rows.ndim != 2:
        raise ValueError(
            f"extractor: features of layer {index} must be floats of shape (positions, channels); "
            f"got {rows.dtype} of shape {rows.shape}."
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"extractor: features of layer {index} contain NaN or infinity.")
    return rows.astype(np.float64)
