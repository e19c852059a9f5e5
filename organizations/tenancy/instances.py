"""Makes Django refuse another organization's instance where it does not ask the router.

Django asks the router when an instance is saved, deleted, or related to another. Elsewhere it just
uses the instance's key, and so finds the active organization's row with that key. This is the list
of those places (Django 5.2, each named by its file below django/db/models); `guard_instances`
puts a check of the instance in front of each. docs/isolation.md says which Django feature leads
through which of them.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db.models import Field, ManyToManyField, Model, QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields import related_lookups
from django.db.models.fields.files import FieldFile, FileDescriptor
from django.db.models.fields.mixins import FieldCacheMixin
from django.db.models.fields.related import ForeignObject, RelatedField
from django.forms import ModelChoiceField

from . import router
from .context import get, peek
from .tenant import ALIAS_PREFIX

# Methods of the instance itself.
OF_THEMSELVES = (
    # base.py: with using= the router is not asked.
    (Model, "save_base"),
    (Model, "refresh_from_db"),
    # base.py: look for other rows with the instance's values, except those with its key.
    (Model, "validate_unique"),
    # sql/compiler.py: `.update(user=instance)`.
    (Model, "prepare_database_save"),
)
# Methods whose first argument is the instance.
OF_ONE = (
    (QuerySet, "contains"),
    # fields/mixins.py: a related object that is already loaded (select_related, second access).
    (FieldCacheMixin, "get_cached_value"),
    # fields/related.py: the values that a relation joins by. A many-to-many's set() and remove(),
    # a foreign key's remove(), prefetching, a relation that is NULL.
    (ForeignObject, "get_local_related_value"),
    (ForeignObject, "get_foreign_related_value"),
    # fields/related.py, fields/__init__.py: order_with_respect_to.
    (RelatedField, "get_forward_related_filter"),
    (Field, "get_filter_kwargs_for_object"),
    # fields/__init__.py, fields/related.py: forms, model_to_dict, Django's serializers.
    (Field, "value_from_object"),
    (ManyToManyField, "value_from_object"),
    # fields/files.py: the same name is a different file in another organization.
    (FileDescriptor, "__get__"),
    # forms/models.py (below django): an instance as a form's data or initial value.
    (ModelChoiceField, "to_python"),
    (ModelChoiceField, "prepare_value"),
)
# Methods of an instance's files. fields/files.py: a file taken from its object is read from the
# active organization's storage; each access leads through one of these.
OF_THEIRS = (
    (FieldFile, "_require_file"),
    (FieldFile, "save"),
    (FieldFile, "delete"),
)
# Methods whose first argument is a list of instances.
OF_MANY = (
    (QuerySet, "bulk_create"),
    (QuerySet, "bulk_update"),
    # deletion.py: deletions, also with using=.
    (Collector, "add"),
)


def guard_instances() -> None:
    """Make Django raise WrongTenant for another organization's instance.

    Called once, when the apps are ready; later calls do nothing.
    """
    normalize: Any = related_lookups.get_normalized_value
    if hasattr(normalize, "__wrapped__"):
        return
    related_lookups.get_normalized_value = _first(normalize, by=_refuse_in_filter)
    for owner, name in (*OF_THEMSELVES, *OF_THEIRS, *OF_ONE, *OF_MANY):
        method = owner.__dict__[name]
        if (owner, name) in OF_THEMSELVES:
            guarded = _first(method, by=refuse_elsewhere)
        elif (owner, name) in OF_THEIRS:
            guarded = _first(method, by=_refuse_file)
        elif (owner, name) in OF_ONE:
            guarded = _second(method)
        else:
            guarded = _many(method)
        setattr(owner, name, guarded)
    for lookup in (related_lookups.RelatedIn, related_lookups.RelatedLookupMixin):
        _bind(lookup)
    Model.__eq__ = _equal(Model.__eq__)  # type: ignore[method-assign]
    GenericForeignKey.__set__ = _generic(GenericForeignKey.__set__)  # type: ignore[method-assign]


def home_of(value: Any) -> str | None:
    """The organization's alias that the instance was loaded from or saved to, or None.

    None for a non-instance, an instance of the master, and one that was never saved.
    """
    if not isinstance(value, Model):
        return None
    home = value._state.db
    return home if home is not None and home.startswith(ALIAS_PREFIX) else None


def refuse_elsewhere(value: Any) -> None:
    """Raise WrongTenant for an instance of another organization than the active one.

    Nothing is raised if none is active: any query from there is refused anyway.
    """
    home, tenant = home_of(value), peek()
    if home is not None and tenant is not None and home != tenant.alias:
        router.refuse_other_tenant(value, tenant.alias)


def _refuse_file(file: FieldFile) -> None:
    refuse_elsewhere(file.instance)


def _refuse_in_filter(value: Any) -> None:
    if home_of(value) is not None:
        router.refuse_other_tenant(value, get().alias)


def _first(function: Any, *, by: Callable[[Any], None]) -> Any:
    @wraps(function)
    def guarded(instance: Any, *args: Any, **kwargs: Any) -> Any:
        by(instance)
        return function(instance, *args, **kwargs)

    return guarded


def _second(method: Any) -> Any:
    @wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        # By name too: acontains() calls contains(obj=…).
        refuse_elsewhere(args[0] if args else next(iter(kwargs.values()), None))
        return method(self, *args, **kwargs)

    return guarded


def _many(method: Any) -> Any:
    @wraps(method)
    def guarded(self: Any, objs: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, QuerySet):
            router.TenantRouter().db_for_write(self.model)  # Raises NoTenant.
        if not isinstance(objs, QuerySet):
            # The check would use up an iterator.
            objs = list(objs)
        for instance in objs:
            refuse_elsewhere(instance)
        return method(self, objs, *args, **kwargs)

    return guarded


def _bind(lookup: Any) -> None:
    """Bind a condition to the organization of the instance in it.

    Building the condition replaces the instance by its key, but the query may run elsewhere.
    """
    prepare, compile_ = lookup.get_prep_lookup, lookup.as_sql

    @wraps(prepare)
    def get_prep_lookup(self: Any) -> Any:
        values: Iterable[Any] = (self.rhs,)
        if isinstance(self, related_lookups.RelatedIn) and self.rhs_is_direct_value():
            values = self.rhs = list(self.rhs)
        homes = [home for value in values if (home := home_of(value)) is not None]
        self.tenant_alias = homes[0] if homes else None
        return prepare(self)

    @wraps(compile_)
    def as_sql(self: Any, compiler: Any, connection: Any) -> Any:
        tenant = peek()
        if self.tenant_alias is not None and tenant is not None:
            router.refuse_other_alias("This condition", self.tenant_alias, tenant.alias)
        return compile_(self, compiler, connection)

    lookup.get_prep_lookup, lookup.as_sql = get_prep_lookup, as_sql


def _equal(method: Any) -> Any:
    @wraps(method)
    def equal(self: Model, other: object) -> Any:
        answer = method(self, other)
        if answer is True and self is not other:
            # Equal keys in two organizations are two rows.
            homes = home_of(self), home_of(other)
            return None in homes or homes[0] == homes[1]
        return answer

    return equal


def _generic(method: Any) -> Any:
    @wraps(method)
    def guarded(self: Any, instance: Model, value: Any) -> None:
        # Django does not ask the router about generic relations.
        if isinstance(value, Model) and not router.TenantRouter().allow_relation(value, instance):
            raise ValueError(
                f"A {type(value)._meta.label} and a {type(instance)._meta.label} are in different "
                "databases and cannot be related."
            )
        method(self, instance, value)

    return guarded
