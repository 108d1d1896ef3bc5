"""Mutants of what carries functions into JAX."""

MUTANTS = {
    "bridges/jax_host.py": [
        (
            "all sets have the operands of the first",
            "for s, own in enumerate(zip(*arrays, strict=True)):",
            "for s, own in enumerate([next(zip(*arrays, strict=True))] * len(arrays[0])):",
            "bridges/test_jax_host.py -k transformations",
        ),
        (
            "linear operands that sets share are not made one for each",
            "jnp.broadcast_to(part, (size, *part.shape[1:])) for part",
            "part for part",
            "bridges/test_jax_host.py -k transformations",
        ),
        (
            "derivatives that are not there are zero",
            "if not all(map(_is_zero, tangents[:n_others])):",
            "if False:",
            "bridges/test_jax_host.py bridges/test_jax_fit.py -k refused",
        ),
        (
            "outside of jit each call is compiled",
            "return _compiled(**params)(*operands)",
            "return _compiled.__wrapped__(**params)(*operands)",
            "bridges/test_jax_host.py -k compiled_once",
        ),
    ],
    "bridges/jax_fit.py": [
        (
            "record rounded to single precision",
            "return *fit.parameters, fit.record.view(np.uint32)",
            "return *fit.parameters, fit.record.astype('f').astype(float).view(np.uint32)",
            "bridges/test_jax_fit.py -k without_x64",
        ),
        (
            "fits that did not converge pass as good ones",
            "status = FitStatus.NOT_CONVERGED",
            "status = FitStatus.OK",
            "bridges/test_jax_fit.py -k flagged",
        ),
        (
            "complaints of a fit are dropped",
            "FitStatus.OK if not fit.complaints else FitStatus.DOUBTFUL",
            "FitStatus.OK",
            "bridges/test_jax_fit.py -k doubtful",
        ),
        (
            "complaints of a derivative are dropped",
            "            warn_of(complaints)\n",
            "",
            "bridges/test_jax_fit.py -k off_the_fixed_point",
        ),
        (
            "the start moves in every mode",
            "if not fit.layer.has_initial_derivative:",
            "if False:",
            "bridges/test_jax_fit.py -k initial_parameters",
        ),
        (
            "random numbers of each call",
            'options["random_state"] = 0',
            "pass",
            "bridges/test_jax_fit.py -k random_state",
        ),
        (
            "the latest fits are kept for good",
            "while len(self.fits) > self.most:",
            "while False:",
            "bridges/test_jax_fit.py -k forgotten or record_only",
        ),
    ],
    "bridges/jax_transport.py": [
        (
            "gradient of the other mixture",
            "1.0, transport, wanted=self.moving)",
            "1.0, transport, wanted=self.moving[::-1])",
            "bridges/test_jax_transport.py -k numpy",
        ),
        (
            "no complaint of a plan that is not optimal",
            "complaints = self.layer.value(a, b)\n            warn_of(complaints)\n",
            "complaints = self.layer.value(a, b)\n",
            "bridges/test_jax_transport.py -k not_optimal",
        ),
        (
            "no value where there is no derivative",
            "return np.asarray(value, self.dtype), *nothing(self.results[1:])",
            "return nothing(self.results)",
            "bridges/test_jax_transport.py -k singular",
        ),
        (
            "covariance type not passed on",
            "types=(a.covariance_type, b.covariance_type)",
            "types=(None, None)",
            "bridges/test_jax_transport.py -k leave_it_open",
        ),
    ],
    "jax.py": [
        (
            "target compared with itself",
            "return distance(source, goal,",
            "return distance(goal, goal,",
            "bridges/test_jax_transport.py -k loss_is",
        ),
        (
            "squared distance whatever is asked",
            "return distance(a, b, squared=squared,",
            "return distance(a, b, squared=True,",
            "bridges/test_jax_transport.py -k numpy",
        ),
    ],
}
