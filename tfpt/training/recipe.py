"""The order of a run: which parts of the model train, one stage after the other."""

import dataclasses

from tfpt.config import Train

ADAPTERS = "adapters"
"""What `--train.lora_rank` makes of `--train.unfreeze`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One stage.

    Attributes:
        name: in history and messages.
        epochs: how often it sees each example; 0: it is passed over.
        unfreeze: what trains of the trunks: `none`, `all`, `last:N`, `regex:RE` or `adapters`.
    """

    name: str
    epochs: int
    unfreeze: str

    @property
    def frozen(self) -> bool:
        """Whether the head trains alone."""
        return self.unfreeze == "none"


def recipe(options: Train, *, groups: int) -> tuple[Part, ...]:
    """Returns the stages; the first is the head's, even where it has no epochs.

    Gradual unfreezing makes a stage of each epoch, with a schedule and an optimizer of its own, until all are unfrozen
    (Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018).

    Args:
        options: the settings.
        groups: of layers, in the trunk that has the fewest.
    """
    if options.unfreeze == "none" or not options.epochs:
        return (Part(name="head", epochs=options.head_epochs + options.epochs, unfreeze="none"),)
    head = Part(name="head", epochs=options.head_epochs, unfreeze="none")
    kind, _, argument = options.unfreeze.partition(":")
    if kind != "gradual":
        unfreeze = ADAPTERS if options.lora_rank else options.unfreeze
        return head, Part(name="fine_tune", epochs=options.epochs, unfreeze=unfreeze)
    more = int(argument or -(-groups // options.epochs))
    alone = min(-(-groups // more), options.epochs)  # epochs until everything is unfrozen, that one counted
    parts = [Part(name=f"unfreeze_{k}", epochs=1, unfreeze=f"last:{k * more}") for k in range(1, alone)]
    last = "all" if alone * more >= groups else f"last:{alone * more}"
    return head, *parts, Part(name="fine_tune", epochs=options.epochs - alone + 1, unfreeze=last)
