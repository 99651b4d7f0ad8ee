"""From a first look at the data to settings, each with its reason."""

import dataclasses

from tfpt.errors import UserError
from tfpt.first_look import FirstLook

SMALL_PICTURE = 128
"""Below this side a picture shows too little for ImageNet's features as they are."""
FEW, FEW_TEXTS = 1000, 1000
"""Training examples below which the backbone is left frozen, or a text backbone trains for longer."""
FEW_IN_TEST = 200
ONE_SIDED = 5
"""Tasks go by macro F1 instead of accuracy when the largest class is so many times the smallest."""

_TASKS = {
    ("image", "label"): "image_classification",
    ("image", "labels"): "image_classification",
    ("image", "target"): "image_regression",
    ("text", "label"): "text_classification",
    ("text", "labels"): "text_classification",
    ("text", "target"): "text_classification",
    ("text", "tags"): "token_classification",
    ("text", "answers"): "question_answering",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One setting, or one that could be tried.

    Attributes:
        flag: its name; empty for a remark.
        value: as text.
        why: sentences.
        chosen: whether it is in force; otherwise it stands there as a comment.
    """

    flag: str = ""
    value: str = ""
    why: str = ""
    chosen: bool = True


def suggest(seen: FirstLook) -> list[Suggestion]:
    """Returns settings that train well as they are, and what to try next.

    Raises:
        UserError: no task learns such labels from such data.
    """
    task = _TASKS.get((seen.modality, seen.label))
    if task is None:
        raise UserError(f"--data holds {seen.modality} and {seen.label}, which no task of tfpt learns together.")
    parts = _pictures(seen) if seen.modality == "image" else _texts(seen)
    return [Suggestion(flag="task", value=task, why=_labels(seen)), *parts, *_splits(seen), *_balance(seen)]


def _labels(seen: FirstLook) -> str:
    shown = ", ".join(seen.classes[:8]) + (", ..." if len(seen.classes) > 8 else "")
    return {
        "label": f"One of {len(seen.classes)} classes for each example: {shown}.",
        "labels": f"Any number of {len(seen.classes)} labels for each example: {shown}.",
        "target": "Numbers for each example.",
        "tags": f"A tag for each word, of {len(seen.classes)}: {shown}.",
        "answers": "Questions whose answers stand in a text.",
    }[seen.label]


def _pictures(seen: FirstLook) -> list[Suggestion]:
    sides, train = seen.pictures, seen.examples["train"]
    found = [
        Suggestion(
            flag="backbone",
            value="efficientnet_lite:lite0",
            why="Small and fast, a good first choice on any machine; 19 MB of weights are fetched once. `tfpt list backbones` shows others; "
            "with a GPU try applications:EfficientNetV2S.",
        )
    ]
    small = sides is not None and sides.short < SMALL_PICTURE
    if sides is not None and small:
        size = max(64, -(-sides.short // 32) * 32)
        found.append(
            Suggestion(
                flag="input.image_size",
                value=str(size),
                why=f"The pictures are {sides.width} x {sides.height} pixels (median): at the backbone's own 224 they cost more and show no more.",
            )
        )
    elif sides is not None and sides.elongation > 1.05:
        found.append(
            Suggestion(
                flag="input.resize",
                value="crop",
                why=f"The pictures are {sides.width} x {sides.height} pixels (median). The largest centred square keeps their proportions; "
                "pad keeps the borders as well, where something is to be seen there.",
            )
        )
    if seen.label == "target":
        found.append(
            Suggestion(flag="input.augment", value="none", why="Crops and flips may change the number that is learned.")
        )
        return [*found, *_epochs(10, 10, "A number needs the backbone's help: it trains after the head.")]
    if train < FEW:
        why = (
            f"{train} training examples are few to train a backbone with, so it stays frozen and is computed once; what comes of it "
            "is a strong baseline (linear probing). --train.epochs=5 trains the backbone, too, and keeps whichever weights are better "
            "on validation."
        )
        return [*found, *_epochs(20, 0, why)]
    if small:
        why = "Small pictures are far from the photos of ImageNet, so all layers train after the head."
        return [*found, *_epochs(3, 6, why)]
    why = (
        "First the head, then everything (Kumar et al., ICLR 2022); whichever weights are better on validation are kept. "
        "--train.epochs=0 stops after the head, in a fraction of the time, and is often enough for photos."
    )
    return [*found, *_epochs(5, 5, why)]


def _texts(seen: FirstLook) -> list[Suggestion]:
    texts, train = seen.texts, seen.examples["train"]
    why = 'A small sentence encoder, 92 MB that are fetched once; it needs the extra: pip install "tfpt[text]".'
    if texts is not None and texts.foreign > 0.1:
        why += (
            f" It was trained on English, and {texts.foreign:.0%} of these letters are no ASCII: a multilingual checkpoint of the "
            "BERT family, as --backbone=hf:FOLDER, is likely to do better."
        )
    found = [Suggestion(flag="backbone", value="hf:minilm_l6", why=why)]
    if texts is not None:
        found.append(
            Suggestion(
                why=f"Half of the texts have over {texts.median} words, one in twenty over {texts.long}; what is longer than the backbone takes is cut "
                "(the run says how much)."
            )
        )
    if train < FEW_TEXTS:
        long = (
            f"With {train} training examples it pays to train for longer (Mosbach et al., ICLR 2021); the best weights on validation "
            "are kept."
        )
        found += _epochs(5, 10, long)
    else:
        found += _epochs(1, 2, "A short stage for the head, then everything.")
    return [
        *found,
        Suggestion(flag="optim.learning_rate", value="1e-4", why="Transformers want lower rates than the default."),
    ]


def _epochs(head: int, after: int, why: str) -> list[Suggestion]:
    return [
        Suggestion(flag="train.head_epochs", value=str(head), why=why),
        Suggestion(flag="train.epochs", value=str(after)),
    ]


def _splits(seen: FirstLook) -> list[Suggestion]:
    counts = ", ".join(f"{count} {name}" for name, count in seen.examples.items())
    found = []
    if seen.own_split:
        found.append(Suggestion(why=f"The data has splits of its own: {counts}."))
    else:
        found.append(Suggestion(flag="input.split", value="70,15,15", why=f"Which makes {counts}."))
        found.append(
            Suggestion(
                flag="input.group",
                value=r"^([^_]+)_",
                chosen=False,
                why="Where several examples show the same thing (a patient, a product, a scene), keep them in one split: a regular expression on "
                "their names.",
            )
        )
    if seen.examples["test"] < FEW_IN_TEST:
        found.append(
            Suggestion(
                flag="train.seeds",
                value="0,1,2",
                chosen=False,
                why=f"{seen.examples['test']} test examples make a wide interval; several seeds show how much is chance.",
            )
        )
    return found


def _balance(seen: FirstLook) -> list[Suggestion]:
    if seen.imbalance <= ONE_SIDED:
        return []
    largest, smallest = seen.counts.index(max(seen.counts)), seen.counts.index(min(seen.counts))
    return [
        Suggestion(
            flag="input.sampling",
            value="sqrt",
            chosen=False,
            why=f"{seen.classes[largest]} has {seen.counts[largest]} examples and {seen.classes[smallest]} {seen.counts[smallest]}: the run goes by macro F1, which counts "
            "all classes alike. Where the small ones are answered badly, draw them more often.",
        )
    ]
