"""`manage.py clone_org NAME NEW`: makes a new organization with another one's data and files."""

import shlex
import sys
from argparse import ArgumentParser
from typing import Any

from organizations import lifecycle
from organizations.management.acts import ActCommand
from organizations.management.interrupts import terminated_as_interrupted
from organizations.models import Organization


class Command(ActCommand):
    """The same as POST /api/v1/organizations/{id}/clone/, without a worker."""

    help = (
        "Clone an organization: make a new one with its data and files at one moment. Nobody is "
        "logged in to it, and it sends no mail. Before anybody can use it, addresses and passwords "
        "are replaced, and your tenant apps' neutralise.py runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("new", help="the clone's name, in any script")
        parser.add_argument(
            "--exact",
            action="store_true",
            help="keep all data as it is (logins still end, no mail is sent)",
        )

    def act(self, organization: Organization, options: dict[str, Any]) -> str:
        def tell(step: str) -> None:
            self.stderr.write(f"{step} …")

        try:
            with terminated_as_interrupted():
                self._cloned = done = lifecycle.clone_organization(
                    organization, name=options["new"], exact=options["exact"], tell=tell
                )
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. Nothing of the clone is left.")
            sys.exit(130)
        new = done.organization.name
        lines = [
            f"Cloned organization {organization.name} to {new}: {done.rows} rows, {done.files} "
            "files. It sends no mail."
        ]
        if options["exact"]:
            lines.append("Exact: its users log in to it with the original's passwords.")
        else:
            lines.append(f"Neutralised: {', '.join(done.neutralised)}.")
            access = f"manage.py create_admin {shlex.quote(new)} --email ADDRESS"
            lines.append(f"Nobody can log in yet: {access}")
        if done.left_as_they_are:
            apps = ", ".join(done.left_as_they_are)
            lines.append(f"Not changed, since they have no neutralise.py: {apps}.")
        return "\n".join(lines)

    def facts(self, organization: Organization) -> dict[str, Any]:
        done = self._cloned
        return {
            **super().facts(done.organization),
            "cloned_from": done.organization.cloned_from,
            "rows": done.rows,
            "files": done.files,
            "neutralised": done.neutralised,
            "left_as_they_are": done.left_as_they_are,
        }
