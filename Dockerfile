# Two stages: the first installs and collects, the second runs. Every path lies below /app, so that
# deploy/run_dockerfile.py can do the same in plain folders where no Docker is at hand. The images
# are named by digest, so that each build begins with the same ones: docs/deployment.md says how to
# move on.

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv venv
# Before the source: this layer is built again only when a pin changes.
COPY requirements/prod.txt requirements/
RUN venv/bin/python -m pip install --quiet --quiet --require-hashes \
    --requirement requirements/prod.txt
COPY . .
# The settings want secrets. These are made for this one command and kept nowhere.
RUN SECRET_KEY="$(venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
    CREDENTIAL_KEYS="$(venv/bin/python -c 'from cryptography.fernet import Fernet as F; print(F.generate_key().decode())')" \
    DATABASE_URL=postgres://build@localhost/build \
    ALLOWED_HOSTS=localhost \
    venv/bin/python manage.py collectstatic --noinput \
    && venv/bin/python -m compileall -q -x '(^|/)venv/' . \
    # A clone made under a strict umask would be unreadable to the server's user.
    && chmod -R a+rX .


FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
WORKDIR /app
ENV PATH=/app/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000
# Owned by root: the server can read its code and change none of it.
COPY --from=build /app /app
USER 10001:10001
EXPOSE 8000
# Asked by a name that is allowed: the server refuses others, 127.0.0.1 among them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os; from urllib.request import Request, urlopen; host = os.environ.get('ALLOWED_HOSTS', '').split(',')[0].strip(' .*') or 'localhost'; urlopen(Request('http://127.0.0.1:' + os.environ['PORT'] + '/health', headers={'Host': host}), timeout=4)"]
# exec: gunicorn takes the shell's place and gets the signals of `docker stop`. What died half-way
# is finished by a worker: `python manage.py worker`, in a container of its own.
CMD ["sh", "-c", "python manage.py migrate --noinput && exec python -m gunicorn -c orgmgmt/gunicorn.py orgmgmt.wsgi"]
