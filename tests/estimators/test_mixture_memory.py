"""Memory: a fit needs little beyond the data, and never an array of samples × components.

Measured from outside, as the resident memory of a process, since not all of it is NumPy's.
"""

import pytest
from peak_memory import peaks_of

N_SAMPLES, N_COMPONENTS = 400_000, 10
MEGABYTE = 1e6
RESPONSIBILITIES = 8 * N_SAMPLES * N_COMPONENTS / MEGABYTE  # 32

SCRIPT = """
def calls(X, weight):
    fits = {{
        init_params: DifferentiableGaussianMixture(
            {n_components}, init_params=init_params, random_state=0, max_iter=3, tol=0, n_jobs=2
        )
        for init_params in ["kmeans", "k-means++", "random", "random_from_data"]
    }}
    mixture = fits["kmeans"]
    cotangent = (None, np.ones(({n_components}, 3)), None)
    return {{
        **{{name: lambda fit=mixture.fit: fit(X) for name, mixture in fits.items()}},
        "weighted": lambda: mixture.fit(X, sample_weight=weight),
        "tied": lambda: mixture.set_params(covariance_type="tied").fit(X),
        "score": lambda: mixture.score(X),
        "predict": lambda: mixture.predict(X),
        "icl": lambda: mixture.icl(X, sample_weight=weight),
        "gradient": lambda: mixture.gradient_wrt_data(X, cotangent, mode="one_step"),
        "predict_proba": lambda: mixture.predict_proba(X),
    }}

X, weight = np.empty(({n_samples}, 3)), np.empty({n_samples})
rng = np.random.default_rng(0)
rng.standard_normal(out=X)
rng.random(out=weight)
weight += 0.5
# everything compiled, every library loaded, every thread started
for call in calls(X[:20_000], weight[:20_000]).values():
    call()
print(json.dumps({{name: peak_of(call) for name, call in calls(X, weight).items()}}))
"""


@pytest.fixture(scope="module")
def peaks():
    """Megabytes beyond the data, by what is done."""
    return peaks_of(SCRIPT.format(n_samples=N_SAMPLES, n_components=N_COMPONENTS))


def test_measurement_sees_an_array_of_samples_times_components(peaks):
    assert peaks["predict_proba"] > 0.9 * RESPONSIBILITIES


@pytest.mark.parametrize("fit", ["kmeans", "k-means++", "random_from_data", "weighted", "tied"])
def test_fit_needs_little_beyond_the_data(peaks, fit):
    assert peaks[fit] < 8  # a quarter of the responsibilities


def test_random_responsibilities_are_drawn_in_chunks(peaks):
    """Three arrays for a chunk of 65 536 rows, however many rows there are."""
    assert peaks["random"] < 20


def test_results_for_every_sample_need_no_more_than_their_size(peaks):
    of_a_number = 8 * N_SAMPLES / MEGABYTE
    assert peaks["predict"] < 2 * of_a_number + 1
    assert peaks["score"] < 2 * of_a_number + 1
    assert peaks["gradient"] < 4 * of_a_number + 1  # of samples, and of sample weights
    assert peaks["icl"] < 20  # responsibilities of a chunk
