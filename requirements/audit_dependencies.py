"""Ask whether a package of requirements/prod.txt has a known hole; no answer is no pass.

pip-audit alone ends with 0 where the index knows no advisories: it skips what it is not told about.
"""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
REQUIREMENTS = "requirements/prod.txt"
_UNANSWERED = """\
{count} of {all} packages could not be audited: {named}.
Nothing is known about them, so this is no pass. The advisories are asked of https://pypi.org; a
mirror has none. Run this where that can be reached, or name another service:
make audit-dependencies ARGS="--vulnerability-service osv"
"""


def verdict(output: str) -> tuple[int, str]:
    """The exit code and what to say, for what pip-audit has printed as JSON."""
    try:
        found = json.loads(output)["dependencies"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return 1, "pip-audit gave no answer; what it said is above. This is no pass."
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version yet'}"
        for each in found
        for hole in each.get("vulns", ())
    ]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    lines = [*holes]
    if skipped:
        few = ", ".join(skipped[:5]) + (" …" if len(skipped) > 5 else "")
        lines.append(_UNANSWERED.format(count=len(skipped), all=len(found), named=few).rstrip())
    if not found:
        lines.append("pip-audit has looked at no package. This is no pass.")
    if lines:
        return 1, "\n".join(lines)
    return 0, f"{len(found)} packages, no known hole."


def main(arguments: list[str]) -> int:
    # --no-deps: the file pins everything, and nothing has to be resolved or downloaded.
    command = [sys.executable, "-m", "pip_audit", "--requirement", REQUIREMENTS, "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    code, sentence = verdict(done.stdout)
    if not done.stdout:
        sys.stderr.write(done.stderr)
    print(sentence, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
