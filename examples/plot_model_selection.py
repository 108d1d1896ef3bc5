"""
How many components, and which covariance type?
===============================================

Thirteen chemical measurements of 178 wines from three cultivars, which the mixtures are not told
of. We choose the number of components and the covariance type in two ways: by criteria that charge
for parameters (BIC, AIC and ICL), and by the likelihood of samples that were left out. They need
not agree, and here they do not.
"""

# %%
# The wines
# ---------
# Measurements have units of their own, so they are scaled to unit variance.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import DifferentiableGaussianMixture
from skgmmot.plotting import MixtureDisplay, ModelSelectionDisplay

X, cultivars = load_wine(return_X_y=True, as_frame=True)
scaler = StandardScaler().set_output(transform="pandas")
mixture = DifferentiableGaussianMixture(reg_covar=1e-2, n_init=5, random_state=0)
n_components = range(1, 9)
covariance_types = ["full", "tied", "diag", "spherical"]

# %%
# Criteria
# --------
# `skgmmot.plotting.ModelSelectionDisplay.from_estimator` fits clones of the mixture and draws a
# criterion of each; ``plot`` draws another one of the same fits. A parameter costs two in AIC, and
# in BIC the logarithm of the number of samples, here 5.2; ICL adds a charge for components that
# overlap. A full covariance of thirteen features has 91 parameters, so BIC and ICL prefer simpler
# ones with more components.

figure, axes = plt.subplots(1, 3, figsize=(10, 4), sharey=True, layout="constrained")
display = ModelSelectionDisplay.from_estimator(
    mixture,
    scaler.fit_transform(X),
    n_components=n_components,
    covariance_types=covariance_types,
    ax=axes[0],
    criterion="bic",
)
display.plot(axes[1], criterion="aic")
display.plot(axes[2], criterion="icl")
axes[0].set_ylim(top=8800)  # room for the legends
plt.show()

# %%
# Samples that were left out
# --------------------------
# Cross-validation asks what a mixture has learned about wines that it has not seen. A Pipeline
# scales those with the means and variances of the others. The bands are a standard deviation over
# folds. Full covariances do best with as many components as there are cultivars; with more of them,
# they describe the wines they were fitted to and no others.

pipeline = make_pipeline(scaler, mixture)
search = GridSearchCV(
    pipeline,
    {
        "differentiablegaussianmixture__n_components": n_components,
        "differentiablegaussianmixture__covariance_type": covariance_types,
    },
    cv=KFold(10, shuffle=True, random_state=0),
).fit(X)
figure, axis = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
ModelSelectionDisplay.from_cv_results(search, ax=axis, band_kw={"alpha": 0.06})
axis.set_ylabel("mean log-likelihood of the folds left out")
plt.show()

# %%
# The same sweep by scikit-learn
# ------------------------------
# By BIC, with k-means starts and the stopping rule of scikit-learn for both.

options = {"reg_covar": 1e-2, "n_init": 5, "random_state": 0}
scaled = scaler.fit_transform(X).to_numpy()
seconds, bics = {}, {}
for name, model in {
    "scikit-learn": GaussianMixture(**options),
    "skgmmot": DifferentiableGaussianMixture(residual_tol=np.inf, **options),
}.items():
    start = time.perf_counter()
    bics[name] = [
        model.set_params(n_components=n, covariance_type=kind).fit(scaled).bic(scaled)
        for kind in covariance_types
        for n in n_components
    ]
    seconds[name] = time.perf_counter() - start
    print(f"{name}: {len(bics[name])} fits in {seconds[name]:.2f} s,", end=" ")
    print(f"least BIC {min(bics[name]):.1f}")

# %%
# What was chosen
# ---------------
# The search ends with the mixture that it found best, fitted to all wines. It is drawn as it is, in
# the space of the scaled measurements, and the components can be compared with the cultivars.

best = search.best_estimator_[-1]
print(f"cross-validation: {best.covariance_type}, {best.n_components} components")
agreement = adjusted_rand_score(cultivars, search.predict(X))
print(f"adjusted Rand index of its components and the cultivars: {agreement:.2f}")

figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for axis, features in zip(
    axes, (("flavanoids", "color_intensity"), ("proline", "alcohol")), strict=True
):
    MixtureDisplay.from_estimator(
        search,
        X,
        features=features,
        ax=axis,
        annotate="weight",
    )
plt.show()

# sphinx_gallery_thumbnail_number = 2
