"""How a checkpoint is to be read, where it allows several ways."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """How a checkpoint is to be read.

    `ema`: its running average, not the weights themselves. `override`: options may contradict what it says of its
    input. `any_size`: another file says the input size, and this one need not.
    """

    ema: bool = False
    override: bool = False
    any_size: bool = False


AS_IT_IS = Reading()
