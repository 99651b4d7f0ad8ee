"""What somebody should know who reads the numbers of an evaluation."""

from collections.abc import Mapping
from typing import Any

from tfpt.evaluation.wording import words

FEW_EXAMPLES = 10
"""A class with fewer test examples than this is named in a warning."""


def cautions(metrics: Mapping[str, Any]) -> list[str]:
    """Returns sentences about what metrics.json holds: a failed proof, no clear gain over the baseline, few examples."""
    found = []
    parity = metrics.get("parity")
    if parity and not parity.get("passed"):
        reason = f" ({parity['reason']})" if parity.get("reason") else ""
        found.append(f"The served model does not give the scores that were evaluated{reason}: do not use it.")
    top = headline(metrics)
    if top and top["baseline"] is not None and top["low"] is not None:
        better = metrics.get("higher_is_better", True)
        clearly = top["low"] > top["baseline"] if better else top["high"] < top["baseline"]
        if not clearly:
            found.append(
                f"The interval of {words(top['metric'])} does not lie clear of the baseline: on these "
                "examples the model may be no better than always giving the same answer."
            )
    if metrics.get("limit"):
        found.append(
            f"Only {metrics['limit']} examples were used (--input.limit): this is a first try, and no number here is a result."
        )
    few = [row for row in metrics.get("per_class", ()) if row["support"] < FEW_EXAMPLES]
    if few:
        listed = ", ".join(f"{row['class']} ({row['support']})" for row in few[:8])
        more = f" and {len(few) - 8} more" if len(few) > 8 else ""
        found.append(
            f"Fewer than {FEW_EXAMPLES} test {metrics.get('counted', 'examples')} in {len(few)} of "
            f"{len(metrics['per_class'])} classes, so their numbers are rough: {listed}{more}."
        )
    return found


def headline(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the primary metric on test, or else on validation: `metric`, `split`, `value`, `low`, `high` and `baseline`."""
    primary = metrics.get("primary", "")
    for split in ("test", "validation"):
        if primary in metrics.get(split, {}):
            interval = {"low": None, "high": None, **metrics[split][primary]}
            return {"metric": primary, "split": split, "baseline": metrics.get("baseline", {}).get(primary), **interval}
    return None
