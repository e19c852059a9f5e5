"""Writes the matrix as JUnit XML, and tests/faults/RESULTS.md from that XML.

python -m tests.faults.report test-results/faults.xml tests/faults/RESULTS.md
"""

import sys
import xml.etree.ElementTree as ET  # noqa: S405 - reads what write() below wrote
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.faults import faults, flows, steps
from tests.faults.cells import Cell

_TEXT = Path(__file__).with_name("RESULTS.md.txt")


def write(
    path: Path, cells: Sequence[Cell], *, properties: Mapping[str, str], seconds: float
) -> None:
    """One test case for each cell; one that failed or was not tried has a <failure>."""
    suite = ET.Element("testsuite", name="faults", time=f"{seconds:.1f}", errors="0", skipped="0")
    suite.set("tests", str(len(cells)))
    suite.set("failures", str(sum(bool(cell.problems) for cell in cells)))
    listed = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(listed, "property", name=name, value=value)
    for cell in sorted(cells, key=_place):
        name = f"{cell.step} + {cell.fault}"
        case = ET.SubElement(
            suite, "testcase", classname=cell.flow, name=name, time=f"{cell.seconds:.3f}"
        )
        facts = {"flow": cell.flow, "step": cell.step, "fault": cell.fault, "outcome": cell.outcome}
        facts["recovery_seconds"] = f"{cell.recovery_seconds:.3f}"
        own = ET.SubElement(case, "properties")
        for key, value in facts.items():
            ET.SubElement(own, "property", name=key, value=value)
        if cell.problems:
            failure = ET.SubElement(case, "failure", message=_clean(cell.problems[0][:300]))
            failure.text = _clean("\n".join(cell.problems))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    return "".join(c for c in text if c >= " " or c == "\n")


def _place(cell: Cell) -> tuple[int, int, int, str]:
    orders = (
        [flow.name for flow in flows.ALL],
        [step.name for step in steps.ALL],
        [fault.name for fault in faults.ALL],
    )
    names = (cell.flow, cell.step, cell.fault)
    at = [
        order.index(n) if n in order else len(order) for order, n in zip(orders, names, strict=True)
    ]
    return at[0], at[1], at[2], cell.flow


def failures(path: Path) -> int:
    """How many cells of the XML failed or were not tried."""
    return len(ET.parse(path).getroot().findall(".//testcase/failure"))  # noqa: S314


def render(path: Path) -> str:
    """tests/faults/RESULTS.md."""
    suite = ET.parse(path).getroot().find("testsuite")  # noqa: S314
    assert suite is not None, f"{path} holds no testsuite"
    properties = _properties(suite)
    cases = [(case, _properties(case)) for case in suite.findall("testcase")]
    table: dict[tuple[str, str], list[float]] = defaultdict(list)
    broken: dict[tuple[str, str], int] = defaultdict(int)
    outcomes: dict[str, int] = defaultdict(int)
    slowest = max((float(case.get("time", "0")) for case, _ in cases), default=0.0)
    for case, facts in cases:
        key = facts["flow"], facts["fault"]
        table[key].append(float(facts["recovery_seconds"]))
        broken[key] += case.find("failure") is not None
        outcomes[facts["outcome"]] += 1
    return _TEXT.read_text().format(
        cells=len(cases),
        failures=sum(broken.values()),
        minutes=f"{float(suite.get('time', '0')) / 60:.0f}",
        slowest=f"{slowest:.1f}",
        recovery=f"{max((max(row) for row in table.values()), default=0.0):.1f}",
        outcomes=", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())),
        seed=properties.get("seed", "?"),
        disk=properties.get("disk", "?"),
        table=_table(table, broken),
        faults=_rows((fault.name, fault.how) for fault in faults.ALL),
        steps=_rows((step.name, step.how) for step in steps.ALL),
        flows=_rows((flow.name, ", ".join(_code(c) for c in flow.covers)) for flow in flows.ALL),
        not_at=_rows(
            (f"{fault.name}, at {step}", why)
            for fault in faults.ALL
            for step, why in fault.not_at.items()
        ),
        no_flows=_rows((_code(name), why) for name, why in flows.NO_FLOWS.items()),
    )


def _properties(element: ET.Element) -> dict[str, str]:
    return {p.get("name", ""): p.get("value", "") for p in element.findall("properties/property")}


def _table(
    table: Mapping[tuple[str, str], list[float]], broken: Mapping[tuple[str, str], int]
) -> str:
    names = [fault.name for fault in faults.ALL]
    lines = [f"| flow | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for flow in flows.ALL:
        row = []
        for name in names:
            recoveries = table.get((flow.name, name))
            if not recoveries:
                row.append("**untried**")
            elif broken.get((flow.name, name)):
                row.append(f"**{broken[flow.name, name]} of {len(recoveries)} failed**")
            else:
                row.append(f"{len(recoveries)} · {max(recoveries):.1f}")
        lines.append(f"| {flow.name} | {' | '.join(row)} |")
    return "\n".join(lines)


def _rows(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"| {name} | {text} |" for name, text in pairs)


def _code(name: str) -> str:
    return f"`{name}`"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(render(Path(sys.argv[1])))
