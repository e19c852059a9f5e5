"""Paths below /api/v1/ that are about people."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from . import login_views, views

router = SimpleRouter()
router.register("users", views.UserViewSet, basename="users")

urlpatterns = [
    path("auth/token/", login_views.TokenView.as_view(), name="token"),
    path("auth/token/refresh/", login_views.TokenRefreshView.as_view(), name="token-refresh"),
    path("auth/logout/", login_views.LogoutView.as_view(), name="logout"),
    path("me/", views.MeView.as_view(), name="me"),
    path("me/password/", login_views.MyPasswordView.as_view(), name="me-password"),
    *router.urls,
]
