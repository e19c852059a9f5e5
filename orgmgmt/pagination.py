"""How lists are cut into pages."""

from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class Pages(PageNumberPagination):
    """`?page=` and `?page_size=`; 50 rows a page, 500 at most."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

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
