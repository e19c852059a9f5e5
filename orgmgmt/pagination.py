"""How lists are cut into pages."""

from collections.abc import Iterator
from typing import Any

from django_filters import MultipleChoiceFilter
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`; 50 rows a page, 500 at most."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """The rows of the page. Raises ValidationError, also for a parameter that is given twice.

        Django would obey the last one, and whatever stands in front (a proxy, a log) the first.
        """
        given = request.query_params
        twice = [name for name in self._single(view) if len(given.getlist(name)) > 1]
        if twice:
            raise ValidationError(dict.fromkeys(twice, "Give it once."))
        return super().paginate_queryset(queryset, request, view)

    def _single(self, view: APIView | None) -> Iterator[str]:
        """Names of the list's parameters that have one value each."""
        yield from (self.page_query_param, "page_size", "search", "ordering")
        filters = getattr(getattr(view, "filterset_class", None), "base_filters", {})
        for name, each in filters.items():
            if not isinstance(each, MultipleChoiceFilter):
                yield name

    def get_page_size(self, request: Request) -> int | None:
        """The rows of a page. Raises ValidationError for what is no number of rows.

        DRF's own would answer nonsense with pages of the usual size.
        """
        asked = request.query_params.get(self.page_size_query_param)
        if asked and not (asked.isascii() and asked.isdecimal() and asked.strip("0")):
            raise ValidationError({self.page_size_query_param: "Enter a number, 1 or greater."})
        # int() refuses thousands of digits.
        return self.max_page_size if asked and len(asked) > 20 else super().get_page_size(request)

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """DRF's, with the least that a number may be."""
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            parameter["schema"]["minimum"] = 1
        return parameters
