"""How often each class is drawn in an epoch."""

import numpy as np

POWERS = {"balanced": 0.0, "sqrt": 0.5}
"""A class of n examples is drawn in proportion to n to this power; natural would be 1.

Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018 (square root); Kang et al., "Decoupling
Representation and Classifier for Long-Tailed Recognition", ICLR 2020 (both).
"""


def sampled(examples: np.ndarray, labels: np.ndarray | None, *, sampling: str, seed: int, epoch: int) -> np.ndarray:
    """Returns the examples of one epoch, as many as there are; rare classes repeat theirs, common ones leave some out.

    Nothing is left to chance but which examples: a class has its share to within one example, and each of its examples
    comes `floor` or `ceil` of equally often in every epoch.

    Args:
        examples: `[examples]` int64, indices of the training examples.
        labels: class of each example by its index; None will do for `natural`.
        sampling: `natural`, `balanced` or `sqrt`.
        seed: of the run.
        epoch: counted from 0 over all stages.
    """
    if sampling == "natural":
        return examples
    assert labels is not None, "classes cannot be balanced where there are none"
    key = np.array([seed, 2**63 + epoch], np.uint64)  # the plan's own stream is [seed, epoch]
    random = np.random.Generator(np.random.Philox(key=key))
    of_class = np.asarray(labels)[examples]
    classes, sizes = np.unique(of_class, return_counts=True)
    shares = sizes ** POWERS[sampling]
    exact = shares / shares.sum() * len(examples)
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(counts - exact, kind="stable")[: len(examples) - counts.sum()]  # the largest remainders
    counts[rest] += 1
    drawn = []
    for k, count in zip(classes, counts, strict=True):
        members = examples[of_class == k]
        whole, more = divmod(int(count), len(members))
        drawn.append(np.concatenate([np.tile(members, whole), random.permutation(members)[:more]]))
    return np.concatenate(drawn)
