"""tests/mutants.toml fits the code. `make mutants` runs its faults."""

from tests import mutants


def test_every_fault_fits_the_code_and_its_tests() -> None:
    listed = mutants.listed()
    assert len(listed) >= 120
    assert [problem for each in listed if (problem := each.problem())] == []
