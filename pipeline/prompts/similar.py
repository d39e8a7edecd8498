"""Near-duplicates and surface form, with scikit-learn, which is imported where it is used: it takes a second."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.prompts.prompt import Prompt, normalised

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

QUESTION_WORDS = {
    "what",
    "how",
    "why",
    "who",
    "which",
    "when",
    "where",
    "is",
    "are",
    "can",
    "could",
    "do",
    "does",
    "should",
}
FIRST_PERSON = {"i", "my", "me", "we", "our", "us"}
SECOND_PERSON = {"you", "your"}


@dataclass(frozen=True)
class NearDuplicate:
    """Two prompts, as indices into the sequences compared, and their cosine similarity."""

    first: int
    second: int
    similarity: float


class Similarity:
    """Cosine of TF-IDF vectors of character 3- to 5-grams, with weights from one corpus."""

    def __init__(self, corpus: Sequence[Prompt]):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
        self.vectorizer.fit([normalised(prompt.instruction) for prompt in corpus])

    def vectors(self, prompts: Sequence[Prompt]) -> "csr_matrix":
        """A unit row per prompt."""
        from scipy.sparse import csr_matrix

        return csr_matrix(self.vectorizer.transform([normalised(prompt.instruction) for prompt in prompts]))

    def pairs(self, first: Sequence[Prompt], second: Sequence[Prompt], threshold: float) -> list[NearDuplicate]:
        """Pairs at or above the threshold, most similar first."""
        cosine = (self.vectors(first) @ self.vectors(second).T).tocoo()
        near = [
            NearDuplicate(int(i), int(j), round(float(value), 4))
            for i, j, value in zip(cosine.row, cosine.col, cosine.data, strict=True)
            if value >= threshold
        ]
        return sorted(near, key=lambda pair: (-pair.similarity, pair.first, pair.second))

    def distinct(self, prompts: Sequence[Prompt], threshold: float) -> list[int]:
        """Indices kept when each prompt must differ from every one kept before it."""
        vectors = self.vectors(prompts)
        rows, columns = (vectors @ vectors.T >= threshold).nonzero()
        earlier: dict[int, list[int]] = {}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column < row:
                earlier.setdefault(row, []).append(column)
        kept: set[int] = set()
        for index in range(len(prompts)):
            if not kept.intersection(earlier.get(index, [])):
                kept.add(index)
        return sorted(kept)


def surface_features(prompts: Sequence[Prompt]) -> np.ndarray:
    """prompt x feature: length, punctuation, person, kind of first word; nothing of what is asked."""
    return np.array([_features(prompt.instruction) for prompt in prompts], dtype=float)


def _features(text: str) -> list[float]:
    words = normalised(text).split() or [""]
    return [
        len(text),
        len(words),
        float(np.mean([len(word) for word in words])),
        len(set(words)) / len(words),
        text.endswith("?"),
        text.endswith("."),
        text.count(","),
        any(character.isdigit() for character in text),
        '"' in text or "'" in text,
        words[0] in QUESTION_WORDS,
        not FIRST_PERSON.isdisjoint(words),
        not SECOND_PERSON.isdisjoint(words),
    ]


def surface_auroc(harmful: Sequence[Prompt], harmless: Sequence[Prompt], seed: int) -> dict[str, float | int] | None:
    """Cross-validated AUROC of telling the classes apart by surface form alone, with a 95 % interval.

    Logistic regression, 5 folds; the interval is Hanley and McNeil's (1982). None when a class has
    fewer prompts than folds.
    """
    if min(len(harmful), len(harmless)) < 5:
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = surface_features([*harmful, *harmless])
    labels = np.array([1] * len(harmful) + [0] * len(harmless))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = np.asarray(cross_val_predict(classifier, features, labels, cv=folds, method="predict_proba"))[:, 1]
    auroc = float(roc_auc_score(labels, scores))
    half = 1.96 * _hanley_mcneil(auroc, len(harmful), len(harmless))
    return {
        "value": auroc,
        "low": max(0.0, auroc - half),
        "high": min(1.0, auroc + half),
        "n_harmful": len(harmful),
        "n_harmless": len(harmless),
    }


def _hanley_mcneil(auroc: float, n_first: int, n_second: int) -> float:
    """Standard error of an AUROC (Hanley and McNeil 1982, equation 2)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (n_first - 1) * (q1 - auroc**2) + (n_second - 1) * (q2 - auroc**2)
    return float(np.sqrt(variance / (n_first * n_second)))
