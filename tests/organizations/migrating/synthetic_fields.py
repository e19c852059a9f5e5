"""Synthetic migrations: Django 5.2's operations on fields."""

from .synthetic_case import Case

FIELDS = (
    Case("add_null", 'migrations.AddField("Kinds", "a1", models.IntegerField(null=True))'),
    Case(
        "add_default",
        """migrations.AddField("Kinds", "a2", models.CharField(max_length=9, default="50%'s")),
        migrations.AddField("Kinds", "a3", models.JSONField(default=dict)),
        migrations.AddField("Kinds", "a4", models.DateTimeField(
            default=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))),
        migrations.AddField("Kinds", "a5", models.BinaryField(default=b"\\\\x00'%")),
        migrations.AddField("Kinds", "a6", models.DecimalField(
            default=decimal.Decimal("1.5"), max_digits=5, decimal_places=2)),
        migrations.AddField("Kinds", "a7", ArrayField(models.TextField(), default=["a", "b'"])),
        migrations.AddField("Kinds", "a8", models.TextField(blank=True)),
        migrations.AddField("Kinds", "a9", models.DurationField(
            default=datetime.timedelta(1)), preserve_default=False)""",
    ),
    Case(
        "add_callable",
        """migrations.AddField("Kinds", "b1", models.DateTimeField(
            default=lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)))""",
        forwards=False,
    ),
    Case(
        "add_now",
        'migrations.AddField("Root", "b2", models.DateField(auto_now=True))',
        forwards=False,
    ),
    Case(
        "add_db_default",
        """migrations.AddField("Kinds", "c1", models.IntegerField(db_default=3, default=4)),
        migrations.AddField("Root", "c2", models.DateField(db_default=functions.Now())),
        migrations.AddField("Kinds", "c3", models.TextField(
            db_default=functions.Concat(models.Value("a"), models.Value("%"))))""",
    ),
    Case(
        "add_keys",
        """migrations.AddField("Kinds", "d1", models.ForeignKey(
            "accounts.Crew", models.CASCADE, null=True)),
        migrations.AddField("Kinds", "d2", models.OneToOneField(
            "accounts.User", models.CASCADE, null=True, db_comment="whose")),
        migrations.AddField("Kinds", "d3", models.ManyToManyField("accounts.Crew"))""",
        backwards=False,
    ),
    Case(
        "add_generated",
        """migrations.AddField("Kinds", "e1", models.GeneratedField(
            expression=F("big") * 2, output_field=models.BigIntegerField(), db_persist=True)),
        migrations.AddField("Kinds", "e2", models.GeneratedField(
            expression=functions.Concat(F("file"), models.Value("'%")),
            output_field=models.TextField(), db_persist=True))""",
    ),
    Case(
        "add_indexed",
        """migrations.AddField("Kinds", "f1", models.CharField(
            max_length=9, null=True, unique=True)),
        migrations.AddField("Kinds", "f2", models.TextField(db_index=True, default=""))""",
    ),
    Case(
        "remove_fields",
        """migrations.RemoveField("Kinds", "a1"), migrations.RemoveField("Kinds", "e1"),
        migrations.RemoveField("Kinds", "f2"), migrations.RemoveField("Kinds", "d3")""",
    ),
    Case("remove_key", 'migrations.RemoveField("Kinds", "d1")', forwards=False),
    Case("remove_callable", 'migrations.RemoveField("Kinds", "b1")', backwards=False),
    Case("rename_field", 'migrations.RenameField("Kinds", "a2", "renamed")'),
    Case("alter_type", 'migrations.AlterField("Crew", "size", models.BigIntegerField())'),
    Case(
        "alter_in_time_zone",
        'migrations.AlterField("Kinds", "day", models.DateTimeField(null=True))',
    ),
    Case(
        "alter_length",
        'migrations.AlterField("Kinds", "slug", models.CharField(max_length=70, db_index=True))',
    ),
    Case(
        "alter_check",
        'migrations.AlterField("Kinds", "positive", models.IntegerField())',
        forwards=False,
    ),
    Case(
        "alter_null",
        """migrations.AlterField("Kinds", "day", models.DateTimeField(
            default=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)))""",
    ),
    Case(
        "alter_null_callable",
        """migrations.AlterField("Kinds", "time", models.TimeField(
            default=lambda: datetime.time(1)))""",
        forwards=False,
    ),
    Case(
        "alter_index_on",
        'migrations.AlterField("Kinds", "ratio", models.FloatField(db_index=True))',
        backwards=False,
    ),
    Case(
        "alter_unique_on",
        'migrations.AlterField("Kinds", "note", models.TextField(unique=True))',
        backwards=False,
    ),
    Case(
        "alter_index_off",
        'migrations.AlterField("Kinds", "small", models.IntegerField())',
        forwards=False,
    ),
    Case(
        "alter_unique_off",
        'migrations.AlterField("Kinds", "large", models.BigIntegerField(null=True))',
        forwards=False,
    ),
    Case(
        "alter_identity",
        'migrations.AlterField("Kinds", "id", models.BigAutoField(primary_key=True))',
        forwards=False,  # The name of the sequence.
        backwards=False,
    ),
    Case(
        "alter_db_default",
        """migrations.AlterField("Kinds", "flag", models.BooleanField(db_default=False)),
        migrations.AlterField("Kinds", "price", models.DecimalField(
            max_digits=10, decimal_places=2))""",
    ),
    Case(
        "alter_comment",
        """migrations.AlterField("Kinds", "lasts", models.DurationField(db_comment="it's")),
        migrations.AlterField("Kinds", "a8", models.TextField(db_column="body"))""",
    ),
    Case(
        "alter_key",
        """migrations.AlterField("Member", "loose", models.ForeignKey(
            "accounts.Crew", models.CASCADE, related_name="+", to_field="code"))""",
        backwards=False,
    ),
)
