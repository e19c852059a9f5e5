"""URL patterns for users and logins, below /api/v1/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from . import link_views, login_views, views

router = SimpleRouter()
router.register("users", views.UserViewSet, basename="users")

urlpatterns = [
    path("auth/token/", login_views.TokenView.as_view(), name="token"),
    path("auth/token/refresh/", login_views.TokenRefreshView.as_view(), name="token-refresh"),
    path("auth/logout/", login_views.LogoutView.as_view(), name="logout"),
    path(
        "auth/password-reset/",
        link_views.PasswordResetView.as_view(),
        name="auth-password-reset",
    ),
    path(
        "auth/password-reset/confirm/",
        link_views.PasswordResetConfirmView.as_view(),
        name="auth-password-reset-confirm",
    ),
    path(
        "auth/email/verify/",
        link_views.EmailVerifyView.as_view(),
        name="auth-email-verify",
    ),
    path("me/", views.MeView.as_view(), name="me"),
    path("me/password/", login_views.MyPasswordView.as_view(), name="me-password"),
    path(
        "me/email/verification/",
        link_views.MyEmailVerificationView.as_view(),
        name="me-email-verification",
    ),
    *router.urls,
]
