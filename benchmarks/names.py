"""Names of the organizations that benchmarks create."""

SEEDED = "bench-"


def seeded(count: int) -> list[str]:
    """The first `count` of those that are made ahead."""
    return [f"{SEEDED}{number:05d}" for number in range(count)]
