"""The project's paths, and a view whose body is produced after every middleware has ended."""

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from orgmgmt.urls import urlpatterns as project_urlpatterns

from . import work


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(work.steps())


urlpatterns = [path("test/stream", stream), *project_urlpatterns]
