"""How a checkpoint is to be read, where it allows several ways."""

from dataclasses import dataclass

from efficientvit.head import CLASSIFIER, Head


@dataclass(frozen=True, slots=True)
class Reading:
    """How a checkpoint is to be read.

    `ema`: its running average, not the weights themselves. `override`: options may contradict what it says of its
    input. `any_size`: another file says the input size, and this one need not. `head`: what the model is to give; of
    other heads than a classifier's, the checkpoint's own is not needed.
    """

    ema: bool = False
    override: bool = False
    any_size: bool = False
    head: Head = CLASSIFIER


AS_IT_IS = Reading()
