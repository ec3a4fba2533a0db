"""Making probabilities mean what they say: one temperature, and how far off they still are."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

_log = logging.getLogger(__name__)

#: Bins of equal width over the probability of the predicted class.
N_BINS = 15
#: Without bounds a few pictures, all predicted right, would drive the temperature to zero.
TEMPERATURE_BOUNDS = (0.1, 10.0)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The T that makes ``softmax(logits / T)`` most likely, logits (n, classes), labels (n,).

    Guo et al. 2017, arXiv 1706.04599, section 4.2; the likelihood has one maximum in 1 / T.
    """
    logits64 = logits.astype(np.float64)
    of_label = logits64[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(logsumexp(logits64 * inverse, axis=1) - of_label * inverse))

    low, high = np.log(TEMPERATURE_BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    if min(found.x - low, high - found.x) < 1e-3:
        _log.warning(
            "the temperature stopped at its bound %.2f: too few pictures to fit it on", np.exp(found.x)
        )
    return float(np.exp(found.x))


def expected_calibration_error(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], n_bins: int = N_BINS
) -> float:
    """Mean gap between confidence and accuracy over bins of confidence, weighted by their pictures.

    Confidence is the probability of the predicted class; bin k holds those in (k / n, (k + 1) / n].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(labels))


def at_temperature_one(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """What the probabilities would be without the temperature that they were made with."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny).astype(np.float64))
    plain: NDArray[np.float32] = softmax(logs * temperature, axis=1).astype(np.float32)
    return plain
