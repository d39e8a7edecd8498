"""A linear probe: logistic regression on standardised `resid_pre`, folded into one weight vector and a bias.

Layers and regularisation are chosen by cross-validation, and the whole choice is cross-validated again
(nested), always by group, so that no prompt is both fitted and scored.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Features = Float[Tensor, "row layer d_model"]


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """score(x) = sum over `layers` of weights . x + bias: log-odds of the true class, float64.

    A row is true when its score is above `threshold`. Standardisation is part of weights and bias.
    """

    layers: tuple[int, ...]
    weights: Float[Tensor, "layer d_model"]
    bias: float
    threshold: float = 0.0

    def scores(self, x: Float[Tensor, "row layer d_model"]) -> Float[Tensor, " row"]:
        """Log-odds of rows whose layers are `layers`, in that order."""
        assert x.shape[1:] == self.weights.shape, f"rows of {tuple(x.shape[1:])}, weights {tuple(self.weights.shape)}"
        return torch.einsum("rld,ld->r", x.double(), self.weights) + self.bias


@dataclass(frozen=True)
class Choice:
    """What cross-validation decides: the layers to read and the inverse regularisation strength C."""

    layers: tuple[int, ...]
    c: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows to fit: features of `layers`, labels, and the group (prompt) that each belongs to."""

    layers: tuple[int, ...]
    x: Float[Tensor, "row layer d_model"]
    labels: np.ndarray
    groups: np.ndarray

    def rows(self, index: np.ndarray) -> "Sample":
        """The sample's rows at these numbers."""
        return Sample(self.layers, self.x[torch.from_numpy(index)], self.labels[index], self.groups[index])

    def of(self, layers: Sequence[int]) -> Float[Tensor, "row layer d_model"]:
        """Features of some of the layers."""
        return self.x[:, [self.layers.index(layer) for layer in layers]]


def fit(sample: Sample, choice: Choice) -> LinearProbe:
    """L2 logistic regression of standardised features; mean and scale are folded into weights and bias.

    w . (x - mean) / scale + b = (w / scale) . x + (b - (w / scale) . mean)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x = sample.of(choice.layers)
    flat = x.double().flatten(1).numpy()
    scaler, model = StandardScaler(), LogisticRegression(C=choice.c, max_iter=5000, tol=1e-8)
    model.fit(scaler.fit_transform(flat), sample.labels)
    weights = model.coef_[0] / scaler.scale_
    bias = float(np.asarray(model.intercept_)[0] - weights @ np.asarray(scaler.mean_))
    return LinearProbe(choice.layers, torch.from_numpy(weights).reshape(x.shape[1:]), bias)


def choose(
    sample: Sample,
    choices: Sequence[Choice],
    n_folds: int,
    seed: int,
    progress: Callable[[float], None] = lambda choices: None,
) -> Choice:
    """The choice with the smallest cross-validated log loss; the first of equals."""
    from scipy.special import expit
    from sklearn.metrics import log_loss

    def fitted(part: Sample, choice: Choice) -> LinearProbe:
        probe = fit(part, choice)
        progress(1 / n_folds)
        return probe

    losses = []
    for choice in choices:
        scores = out_of_fold(sample, lambda part, c=choice: fitted(part, c), n_folds, seed)
        losses.append(log_loss(sample.labels, expit(scores)))
    return choices[int(np.argmin(losses))]


def out_of_fold(sample: Sample, fitted: Callable[[Sample], LinearProbe], n_folds: int, seed: int) -> np.ndarray:
    """Score of every row by a probe that was fitted without its group."""
    scores = np.full(len(sample.labels), np.nan)
    for train, test in _folds(sample, n_folds, seed):
        probe = fitted(sample.rows(train))
        scores[test] = probe.scores(sample.rows(test).of(probe.layers)).numpy()
    assert np.isfinite(scores).all(), "every row is in one fold"
    return scores


def _folds(sample: Sample, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    yield from folds.split(np.zeros((len(sample.labels), 1)), sample.labels, sample.groups)
