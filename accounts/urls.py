"""URL patterns for users and logins, below /api/v1/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from .api import links, logins, views

router = SimpleRouter()
router.register("users", views.UserViewSet, basename="users")

urlpatterns = [
    path("auth/token/", logins.TokenView.as_view(), name="token"),
    path("auth/token/refresh/", logins.TokenRefreshView.as_view(), name="token-refresh"),
    path("auth/logout/", logins.LogoutView.as_view(), name="logout"),
    path(
        "auth/password-reset/",
        links.PasswordResetView.as_view(),
        name="auth-password-reset",
    ),
    path(
        "auth/password-reset/confirm/",
        links.PasswordResetConfirmView.as_view(),
        name="auth-password-reset-confirm",
    ),
    path(
        "auth/email/verify/",
        links.EmailVerifyView.as_view(),
        name="auth-email-verify",
    ),
    path("me/", views.MeView.as_view(), name="me"),
    path("me/password/", logins.MyPasswordView.as_view(), name="me-password"),
    path(
        "me/email/verification/",
        links.MyEmailVerificationView.as_view(),
        name="me-email-verification",
    ),
    *router.urls,
]
