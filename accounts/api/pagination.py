"""Pagination of lists: by page number, or by cursor for lists that grow while they are read."""

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django_filters import MultipleChoiceFilter
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination, Cursor, CursorPagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.views import APIView

_LARGEST_ID = 2**63 - 1


class _Strict(BasePagination):
    """50 rows per page, or `?page_size=` up to 500; invalid values are refused."""

    page_size: int | None = 50
    page_size_query_param: str | None = "page_size"
    max_page_size: int | None = 500

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """The page's rows. Raises ValidationError, also for a parameter given twice.

        Django would use the last one; a proxy or log in front may use the first.
        """
        given = request.query_params
        twice = [name for name in _single(view) if len(given.getlist(name)) > 1]
        if twice:
            raise ValidationError(dict.fromkeys(twice, "Send this parameter only once."))
        return super().paginate_queryset(queryset, request, view)

    def get_page_size(self, request: Request) -> int | None:
        """The page size. Raises ValidationError for an invalid one, which DRF would ignore."""
        asked = request.query_params.get("page_size")
        if asked and not (asked.isascii() and asked.isdecimal() and asked.strip("0")):
            raise ValidationError({"page_size": "Enter a number of 1 or more."})
        if asked and len(asked) > 20:
            return self.max_page_size  # int() refuses thousands of digits.
        found: int | None = super().get_page_size(request)  # type: ignore[misc]
        return found

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """DRF's parameters, with the minimum of numbers."""
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            if parameter["schema"]["type"] == "integer":
                parameter["schema"]["minimum"] = 1
        return parameters


def _single(view: APIView | None) -> Iterator[str]:
    """Names of the list's parameters that take one value."""
    yield from ("page", "cursor", "page_size", "search", "ordering")
    filters = getattr(getattr(view, "filterset_class", None), "base_filters", {})
    for name, each in filters.items():
        if not isinstance(each, MultipleChoiceFilter):
            yield name


class Pages(_Strict, PageNumberPagination):
    """`?page=` and `?page_size=`."""

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        return super().paginate_queryset(_in_one_order(queryset), request, view)


def _in_one_order(rows: Any) -> Any:
    """Also order by primary key: otherwise tied rows could appear on two pages or on none."""
    if not isinstance(rows, QuerySet):
        return rows
    query = rows.query
    if query.is_sliced or query.combinator or query.has_select_fields:
        return rows  # Already sliced, or without a primary key.
    order = query.order_by or ((query.get_meta().ordering or ()) if query.default_ordering else ())
    key = query.get_meta().pk.name
    if {"pk", "-pk", key, f"-{key}"} & {each for each in order if isinstance(each, str)}:
        return rows
    return rows.order_by(*order, "pk")


class NewestFirst(_Strict, CursorPagination):
    """`?cursor=` from the previous response, for lists that grow at their head while being read."""

    ordering = "-pk"

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        if "page" in request.query_params:
            # A client that counts pages until none is left would read the first page for ever.
            raise ValidationError({"page": "Pages have no numbers here. Follow `next`."})
        return super().paginate_queryset(queryset, request, view)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The decoded cursor. Raises ValidationError for an invalid one."""
        if not request.query_params.get(self.cursor_query_param):
            return None
        try:
            cursor: Cursor | None = super().decode_cursor(request)
            position = int(cursor.position) if cursor and cursor.position is not None else 0
        except Exception:
            position = -1
        if not 0 <= position <= _LARGEST_ID:
            raise ValidationError({self.cursor_query_param: "Take it from `next` or `previous`."})
        return cursor
