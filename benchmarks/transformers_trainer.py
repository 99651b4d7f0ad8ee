"""The peer of text_vs_transformers.py: the Transformers Trainer, as its own text-classification example sets it up.

Run by that program, with a Python that has torch and transformers. Prints one JSON line an event.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


def say(event, **values):
    """Prints an event for the program that listens."""
    print(json.dumps({"event": event, **values}), flush=True)


def read(file):
    """Returns texts and labels of a TSV file without a header."""
    with open(file, encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[0] for row in rows], [row[-1] for row in rows]


class Clock(TrainerCallback):
    """Sums up the time between the beginning and the end of epochs, evaluation left out."""

    seconds = 0.0

    def on_epoch_begin(self, *_, **__):
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, *_, **__):
        """Stops it; the evaluation comes after."""
        self.seconds += time.perf_counter() - self.started


def main():
    """Trains and prints what it came to."""
    parser = argparse.ArgumentParser()
    for name, kind in (("data", str), ("model", str), ("epochs", int), ("batch", int), ("rate", float), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("length", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--work", required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    set_seed(given.seed)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    parts = {name: read(Path(given.data) / f"{name}.tsv") for name in ("train", "dev", "test")}
    classes = sorted(set(parts["train"][1]))

    def examples(name):
        texts, labels = parts[name]
        encoded = tokenizer(texts, truncation=True, max_length=given.length)
        return [
            {"input_ids": ids, "attention_mask": mask, "label": classes.index(label)}
            for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        ]

    data = {name: examples(name) for name in parts}
    model = AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=len(classes))
    clock = Clock()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=given.work,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=given.batch,
            per_device_eval_batch_size=64,
            learning_rate=given.rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            eval_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=given.bf16,
            seed=given.seed,
        ),
        train_dataset=data["train"],
        eval_dataset=data["dev"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
        callbacks=[clock],
    )

    class Tell(TrainerCallback):
        """Tells each evaluation."""

        def on_evaluate(self, *_, metrics=None, **__):
            """Tells accuracy and speed on the dev split."""
            say("evaluated", accuracy=metrics["eval_accuracy"], speed=metrics["eval_samples_per_second"])

    trainer.add_callback(Tell())
    trainer.train()
    trained = given.epochs * len(data["train"])
    found = trainer.predict(data["test"]).metrics
    say("done", accuracy=found["test_accuracy"], train_speed=trained / clock.seconds, bf16=given.bf16)


if __name__ == "__main__":
    main()
