"""Updates the keys of names: ı, I, i and İ are one letter, and ᾷ is written one way."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from organizations.naming import name_digest, name_digests


def fold(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Where two live organizations' names become one, the older gets the key: the younger keeps
    its own, and organizations.naming.name_digests finds it by its own spelling."""
    rows = apps.get_model("organizations", "Organization").objects.using("default")
    live = rows.exclude(status="deleted")
    taken = set(live.values_list("name_digest", flat=True))
    for pk, name, before, status in rows.order_by("pk").values_list(
        "pk", "name", "name_digest", "status"
    ):
        digest = name_digest(name)
        if digest != before and (status == "deleted" or digest not in taken):
            rows.filter(pk=pk).update(name_digest=digest)
            if status != "deleted":
                taken.add(digest)


def unfold(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """The keys by which the previous code looks names up."""
    rows = apps.get_model("organizations", "Organization").objects.using("default")
    for pk, name, digest in rows.values_list("pk", "name", "name_digest"):
        if (before := name_digests(name)[0]) != digest:
            rows.filter(pk=pk).update(name_digest=before)


class Migration(migrations.Migration):
    dependencies = [("organizations", "0007_uncopyable_schemas")]

    operations = [migrations.RunPython(fold, unfold)]
