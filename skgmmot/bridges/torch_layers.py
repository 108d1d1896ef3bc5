"""What layers of a module make of an image, and its vector-Jacobian product.

The module runs once for all layers. Hooks copy what the layers return, because a layer that follows
may change it in place, and are gone after that.
"""

import numpy as np
import torch

# In training mode these make other features of the same image, or change with every image.
_OTHER_IN_TRAINING = (
    torch.nn.modules.batchnorm._BatchNorm,
    torch.nn.modules.dropout._DropoutNd,
)


def checked_layers(module, layers):
    """Names of layers of a module, at least one, each once."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module; got {type(module).__name__}.")
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of names; got a text. Pass [{layers!r}].")
    layers = list(layers)
    known = dict(module.named_modules())
    for name in layers:
        if name not in known:
            some = ", ".join(list(known)[1:9])
            raise ValueError(
                f"layers: the module has no layer {name!r}. Names are those of "
                f"module.named_modules(): {some}{' …' if len(known) > 9 else ''}."
            )
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be at least one name, each once; got {layers}.")
    return layers


def layers_of(module, layers, transform):
    """An extractor: an image to the list of the features of layers, and their VJP."""

    def extract(image):
        image = np.asarray(image)
        if image.dtype.kind != "f" or image.ndim not in (2, 3):
            raise ValueError(
                "image must hold floats, of the shape (height, width) or (height, width, "
                f"n_channels); got {image.dtype} of shape {image.shape}."
            )
        refuse_training(module)
        like = next(iter(module.parameters()), torch.empty(0))
        pixels = torch.tensor(image, dtype=like.dtype, device=like.device)
        pixels.requires_grad_()
        with torch.enable_grad():
            channels = pixels[None] if pixels.dim() == 2 else pixels.movedim(-1, 0)
            batch = channels[None]
            outputs = _outputs(module, layers, batch if transform is None else transform(batch))
            rows = [_rows(outputs[name], name) for name in layers]

        def vjp(cotangents):
            bars = [
                torch.tensor(np.asarray(bar), dtype=row.dtype, device=row.device)
                for bar, row in zip(cotangents, rows, strict=True)
            ]
            (found,) = torch.autograd.grad(rows, pixels, bars, retain_graph=True)
            return found.cpu().numpy().astype(image.dtype)

        return [row.detach().cpu().numpy() for row in rows], vjp

    return extract


def refuse_training(module):
    """Refuse a module whose features depend on chance, or on the images before."""
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, _OTHER_IN_TRAINING):
            raise ValueError(
                f"module: its layer {name!r}, a {type(layer).__name__}, is in training mode, where "
                "features are no function of the image. Call module.eval()."
            )


def _outputs(module, layers, batch):
    """What the layers return, by their names."""
    outputs = {}

    def keeper(name):
        def keep(layer, inputs, output):
            if name in outputs:
                raise ValueError(f"layers: {name!r} runs more than once for an image.")
            if not isinstance(output, torch.Tensor):
                raise TypeError(
                    f"layers: {name!r} must return a tensor; it returns a {type(output).__name__}."
                )
            outputs[name] = output.clone()

        return keep

    known = dict(module.named_modules())
    handles = [known[name].register_forward_hook(keeper(name)) for name in layers]
    try:
        module(batch)
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in layers if name not in outputs]
    if missing:
        raise ValueError(f"layers: {missing} did not run. Name layers that an image goes through.")
    return outputs


def _rows(output, name):
    """(1, d, height, width) or (1, n, d) as rows of d features."""
    if output.dim() == 4 and len(output) == 1:
        return output[0].flatten(1).T.contiguous()
    if output.dim() == 3 and len(output) == 1:
        return output[0].contiguous()
    raise ValueError(
        f"layers: {name!r} must return a tensor of shape (1, channels, height, width) or "
        f"(1, positions, channels) for an image; it returns {tuple(output.shape)}."
    )
