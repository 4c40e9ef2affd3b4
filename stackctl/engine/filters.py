"""What a prune takes: labels and times; pure."""

from collections.abc import Mapping, Sequence

from stackctl.frozen import frozen


@frozen
class PruneFilter:
    """Which unused things go: made until then (seconds since the epoch; None: whenever), with these labels, without those.

    A label is "key" or "key=value".
    """

    until: float | None = None
    labels: Sequence[str] = ()
    not_labels: Sequence[str] = ()

    def takes(self, labels: Mapping[str, str], created: float) -> bool:
        """Tell whether a thing with these labels, made then, goes."""
        if self.until is not None and created > self.until:
            return False
        return all(_has(labels, item) for item in self.labels) and not any(
            _has(labels, item) for item in self.not_labels
        )


def _has(labels: Mapping[str, str], item: str) -> bool:
    name, equals, value = item.partition("=")
    return name in labels and (not equals or labels[name] == value)
