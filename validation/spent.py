"""What it takes to run a verified artifact: samples, from which every figure is derived."""

from dataclasses import dataclass

import numpy as np

_CONFIDENCE = 99.0
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Spent:
    """Samples of one artifact. `latency_ns`: runs, nanoseconds per batch.

    Of processes of their own, one sample each: `load_ns`, `first_ns`, and `memory_bytes` over an empty runtime's.
    """

    latency_ns: tuple[int, ...]
    load_ns: tuple[int, ...] = ()
    first_ns: tuple[int, ...] = ()
    memory_bytes: tuple[int, ...] = ()

    @property
    def latency_ms(self) -> float:
        """Median, milliseconds per batch."""
        return float(np.median(self.latency_ns)) / 1e6

    def latency_interval_ms(self) -> tuple[float, float]:
        """What holds the median with a confidence of 99 %, by the bootstrap; milliseconds per batch."""
        rng, samples = np.random.default_rng(0), np.array(self.latency_ns, np.float64)
        medians = np.median(rng.choice(samples, (_RESAMPLES, len(samples))), axis=1) / 1e6
        tail = (100 - _CONFIDENCE) / 2
        low, high = np.percentile(medians, [tail, 100 - tail])
        return float(low), float(high)

    @property
    def load_ms(self) -> float | None:
        """Median over the processes, milliseconds; None where there were none."""
        return _median(self.load_ns, 1e6)

    @property
    def first_ms(self) -> float | None:
        """Median over the processes, milliseconds; None where there were none."""
        return _median(self.first_ns, 1e6)

    @property
    def memory_mb(self) -> float | None:
        """Median over the processes, MB (10^6 bytes); None where there were none."""
        return _median(self.memory_bytes, 1e6)


def _median(samples: tuple[int, ...], unit: float) -> float | None:
    return float(np.median(samples)) / unit if samples else None
