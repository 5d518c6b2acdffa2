"""An export that nobody watches."""

from efficientvit.weights.source import About


class Silent:
    """Progress for nobody."""

    def step(self, text: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def weights(self, about: About) -> None:
        """Ignored."""

    def vacuous(self, model: str, failures: tuple[str, ...]) -> None:
        """Ignored."""

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        """Ignored."""

    def download(self, done: int, total: int | None) -> None:
        """Ignored."""
