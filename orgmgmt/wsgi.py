"""What a WSGI server imports."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
application = get_wsgi_application()
