"""Mutants of the layers, and of what carries them into other frameworks."""

MUTANTS = {
    "functions/layer.py": [
        (
            "cotangents of the initial parameters are lost",
            "LayerCotangent(result.data, result.sample_weight, initial, complaints)",
            "LayerCotangent(result.data, result.sample_weight, None, complaints)",
            "functions/test_layer.py -k estimator or initial",
        ),
        (
            "the path begins at its end",
            "mixtures = record.end, record.previous, paths[0].start",
            "mixtures = record.end, record.previous, record.end",
            "functions/test_layer.py -k estimator",
        ),
        (
            "tangents of the initial parameters are forgotten",
            'options["initial_dot"] = MixtureParameters(*parts, em_map.family.name)',
            'options["initial_dot"] = None',
            "functions/test_layer.py -k transpose or partial",
        ),
        (
            "arrays that differ share a layer",
            "return value.dtype.str, value.shape, value.tobytes()",
            "return value.dtype.str, value.shape",
            "functions/test_layer.py -k equal",
        ),
    ],
    "functions/transport_layer.py": [
        (
            "the distance has the gradient of its square",
            "if not self.squared:",
            "if self.squared is None:",
            "functions/test_transport_layer.py",
        ),
        (
            "the one mixture is taken for the other side",
            "side = 0 if single[1] else 1",
            "side = 0",
            "functions/test_transport_layer.py -k many_values",
        ),
    ],
    "em/path.py": [
        (
            "a later temperature starts where the first did",
            "self.start = self.before.end",
            "self.start = self.start",
            "functions/test_layer.py -k estimator",
        ),
    ],
    "bridges/torch_tensors.py": [
        (
            "results share memory with the fit",
            "torch.from_numpy(np.array(array)).to(dtype)",
            "torch.from_numpy(np.asarray(array)).to(dtype)",
            "bridges/test_torch.py -k memory_of_their_own",
        ),
        (
            "what is differentiated is compiled, and its tangents lost",
            "if torch.autograd.forward_ad._current_level >= 0:\n        return True",
            "if torch.autograd.forward_ad._current_level >= 0:\n        return False",
            "bridges/test_torch_transforms.py -k lost",
        ),
        (
            "traced calls become constants",
            "return torch._C._len_torch_dispatch_stack() > 0",
            "return False",
            "bridges/test_torch_transforms.py -k agree",
        ),
        (
            "second derivatives are wrong numbers",
            "torch.is_grad_enabled()\n            or",
            "False or",
            "bridges/test_torch_transforms.py -k second",
        ),
        (
            "cupy works on a stream of its own",
            "cupy().cuda.ExternalStream(stream):",
            "cupy().cuda.Stream(null=True):",
            "bridges/test_torch_device.py -k stream",
        ),
        (
            "results are the memory of CuPy",
            "torch.from_dlpack(array).to(dtype, copy=True)",
            "torch.from_dlpack(array).to(dtype)",
            "bridges/test_torch_device.py -k copied",
        ),
        (
            "CUDA tensors are fitted on the host",
            "if tensor is None or not is_in_cuda(tensor):",
            "if tensor is None or True:",
            "bridges/test_torch_device.py -k gradients",
        ),
        (
            "warnings come at a line of ours",
            "frame, level = frame.f_back, level + 1",
            "frame, level = frame.f_back, level",
            "bridges/test_torch.py -k line_of_the_user",
        ),
    ],
    "bridges/torch_fit.py": [
        (
            "every fit is the one that was kept",
            "return self.fitted if same else None",
            "return self.fitted",
            "bridges/test_torch_transforms.py -k kept",
        ),
        (
            "records are where the data are",
            'dtype=torch.float64, device="cpu")',
            "dtype=torch.float64)",
            "bridges/test_torch_device.py -k compiler",
        ),
        (
            "sample weights are left out",
            "arrays = rows_of(X), rows_of(sample_weight), initial",
            "arrays = rows_of(X), None, initial",
            "bridges/test_torch.py -k estimator",
        ),
    ],
    "bridges/torch_layers.py": [
        (
            "results of layers are not copied",
            "output.clone()",
            "output",
            "bridges/test_torch_layers.py -k in_place",
        ),
        (
            "hooks stay",
            "            handle.remove()",
            "            pass",
            "bridges/test_torch_layers.py -k stays_as",
        ),
        (
            "the transform is left out",
            "batch if transform is None else transform(batch)",
            "batch",
            "bridges/test_torch_layers.py -k transform",
        ),
        (
            "training mode goes unnoticed",
            "layer.training and isinstance",
            "False and isinstance",
            "bridges/test_torch_layers.py -k training",
        ),
    ],
}
