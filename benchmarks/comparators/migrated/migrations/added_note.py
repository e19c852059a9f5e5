from django.db import migrations, models

from benchmarks.comparators.migrated import newest


class Migration(migrations.Migration):
    dependencies = [("accounts", newest())]
    operations = [
        migrations.AddField("user", "note", models.CharField(max_length=20, db_default=""))
    ]
