"""Synthetic migrations: Django 5.2's operations on models."""

from .synthetic_case import Case

MODELS = (
    Case(
        "create_kinds",
        """migrations.CreateModel("Kinds", [
            ("id", models.AutoField(primary_key=True)),
            ("many", ArrayField(models.IntegerField(), default=list)),
            ("big", models.BigIntegerField(default=5)),
            ("binary", models.BinaryField(null=True)),
            ("day", models.DateField(null=True)),
            ("at", models.DateTimeField(auto_now_add=True)),
            ("price", models.DecimalField(max_digits=9, decimal_places=2, db_default=1)),
            ("lasts", models.DurationField(db_default=datetime.timedelta(hours=2))),
            ("file", models.FileField(upload_to="x", max_length=77)),
            ("ratio", models.FloatField(db_default=functions.Pi())),
            ("address", models.GenericIPAddressField(null=True)),
            ("json", models.JSONField(default=dict, db_default={"it's": ["100%", None]})),
            ("positive", models.PositiveIntegerField(default=0)),
            ("small", models.PositiveSmallIntegerField(db_index=True, default=0)),
            ("large", models.PositiveBigIntegerField(null=True, unique=True)),
            ("slug", models.SlugField(db_comment="50 of it's \\\\ slug")),
            ("name", models.CharField(max_length=30, unique=True, db_default="a 'b' \\\\ %s")),
            ("text", models.TextField(db_index=True, db_collation="C")),
            ("note", models.TextField(default="")),
            ("time", models.TimeField(null=True)),
            ("key", models.UUIDField(default=uuid.uuid4)),
            ("flag", models.BooleanField(db_default=True)),
            ("was", models.DateTimeField(db_default=functions.Now())),
        ])""",
        forwards=False,  # Whether a collation is deterministic.
    ),
    Case(
        "create_team",
        """migrations.CreateModel("Team", [
            id_(), ("name", models.CharField(max_length=30)), ("size", models.IntegerField()),
            ("code", models.CharField(max_length=9, unique=True)),
        ], options={
            "db_table_comment": "It's", "unique_together": {("name", "size")},
            "indexes": [models.Index(fields=["-size"], name="team_size")],
            "constraints": [models.CheckConstraint(condition=Q(size__gt=0), name="team_is_one")],
        })""",
    ),
    Case(
        "create_relations",
        """migrations.CreateModel("Member", [
            id_(), ("team", models.ForeignKey("accounts.Team", models.CASCADE)),
            ("boss", models.ForeignKey("self", models.CASCADE, null=True)),
            ("user", models.OneToOneField("accounts.User", models.CASCADE)),
            ("teams", models.ManyToManyField("accounts.Team", related_name="+")),
            ("loose", models.ForeignKey(
                "accounts.Team", models.CASCADE, related_name="+", db_constraint=False,
                to_field="code")),
        ]), migrations.CreateModel("Link", [
            id_(), ("team", models.ForeignKey("accounts.Team", models.CASCADE)),
            ("member", models.ForeignKey("accounts.Member", models.CASCADE)),
        ]), migrations.CreateModel("Root", [id_()]), migrations.CreateModel("Squad", [
            ("root_ptr", models.OneToOneField(
                "accounts.Root", models.CASCADE, parent_link=True, primary_key=True)),
            ("members", models.ManyToManyField("accounts.Member", through="accounts.Link")),
        ], bases=("accounts.root",))""",
    ),
    Case(
        "create_tableless",
        """migrations.CreateModel("Shadow", [], options={"proxy": True}, bases=("accounts.root",)),
        migrations.CreateModel("Alien", [id_()], options={"managed": False})""",
    ),
    Case(
        "create_composite",
        """migrations.CreateModel("Seat", [
            ("pk", models.CompositePrimaryKey("row", "place", primary_key=True)),
            ("row", models.IntegerField()), ("place", models.IntegerField()),
        ])""",
    ),
    Case(
        "rows",
        """migrations.RunSQL([
            "INSERT INTO accounts_kinds (name, text, file, big, many, json, positive, small, slug,"
            " note, key, at, was, day) VALUES ('first', '', '', 1, '{}', '{}', 0, 0, 'x', '',"
            " '6f1c0e4e-0000-4000-8000-000000000000', '2026-01-01', '2026-01-01', '2026-01-02')"
            " -- 100%",
            ("INSERT INTO accounts_team (name, size, code) VALUES (%s, %s, '7%%')", ["it's", 1]),
        ], "DELETE FROM accounts_kinds; DELETE FROM accounts_team;")""",
    ),
    Case("rename_lonely", 'migrations.RenameModel("Seat", "Chair")'),
    Case(
        "delete_models",
        """migrations.CreateModel("Gone", [id_(), ("to", models.ManyToManyField("Team"))]),
        migrations.DeleteModel("Gone"), migrations.DeleteModel("Chair")""",
    ),
    Case(
        "rename_model",
        'migrations.RenameModel("Team", "Crew")',
        forwards=False,  # The names of foreign keys.
        backwards=False,
    ),
    Case("rename_table", 'migrations.AlterModelTable("Crew", "crews")'),
    Case("table_comment", 'migrations.AlterModelTableComment("Crew", "another")'),
    Case(
        "add_together",
        'migrations.AlterUniqueTogether("Kinds", {("big", "slug"), ("big", "note")})',
        backwards=False,
    ),
    Case(
        "change_together",
        'migrations.AlterUniqueTogether("Kinds", {("big", "slug")})',
        forwards=False,
    ),
    Case(
        "index_together",
        'migrations.AlterIndexTogether("Kinds", {("big", "small")})',
        backwards=False,
    ),
    Case("order", 'migrations.AlterOrderWithRespectTo("Member", "team")'),
    Case(
        "options",
        """migrations.AlterModelOptions("Kinds", {"ordering": ["id"], "verbose_name": "kind"}),
        migrations.AlterModelManagers("Kinds", [("others", models.Manager())])""",
    ),
)
