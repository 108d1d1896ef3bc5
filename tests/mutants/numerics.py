"""Mutants of threads and of linear systems."""

MUTANTS = {
    "numerics/linear_solve.py": [
        (
            "no look at the size of the solution",
            " and np.linalg.norm(vector) * _SINGULAR < norm",
            "",
            "em/test_adjoints.py -k dwarfs",
        ),
        (
            "singular systems solved as regular ones",
            "regular = values > _SINGULAR * values[0]",
            "regular = values > 0",
            "em/test_adjoints.py -k merged",
        ),
    ],
    "numerics/threads.py": [
        (
            "last segment of a range left out",
            "task(cuts[r], cuts[r + 1])",
            "task(cuts[r], cuts[r + 1] - 1)",
            "numerics/test_threads.py -k every_segment",
        ),
        (
            "first to leave gives BLAS threads back",
            "            if not _holders:",
            "            if True:",
            "numerics/test_threads.py -k given_back",
        ),
        (
            "environment may raise the number of threads",
            "available = min(available, int(setting))",
            "available = int(setting)",
            "numerics/test_threads.py -k environment or lower_of_two",
        ),
        (
            "one thread fewer than joblib",
            "max(1, available + 1 + n_jobs)",
            "max(1, available + n_jobs)",
            "numerics/test_threads.py -k joblib",
        ),
        (
            "what others set is set back",
            "if library.num_threads == 1:",
            "if True:",
            "numerics/test_threads.py -k meanwhile",
        ),
    ],
}
