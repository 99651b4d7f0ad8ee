"""Names of metrics and settings as words."""

_AS_WRITTEN = {"f1": "F1", "roc": "ROC", "auc": "AUC", "r2": "R²", "mae": "MAE", "rmse": "RMSE"}
_AS_WRITTEN |= {"matthews": "Matthews correlation", "pearson": "Pearson", "spearman": "Spearman"}


def words(name: str) -> str:
    """Returns a name with spaces, and abbreviations as they are usually written: `macro_f1` -> `macro F1`."""
    return " ".join(_AS_WRITTEN.get(word, word) for word in name.split("_"))
