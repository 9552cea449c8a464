# The worker's image: an environment of locked packages, an unprivileged user, no compiler and no pip of its own.
# One image serves both roles: `worker` (the default) and `beat`.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
# For builds behind a mirror. They exist in this stage only and never reach the final image. An index that
# needs a password is better reached through a proxy: build arguments stay in the builder's cache.
ARG PIP_INDEX_URL=""
ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_TRUSTED_HOST=""
ARG PIP_CERT=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /src
# pip stays in /tools and installs into the other environment from there.
RUN python3 -m venv /tools \
    && python3 -m venv --without-pip /opt/kinetic-retry
COPY requirements.lock requirements-build.lock ./
RUN /tools/bin/pip --python /opt/kinetic-retry/bin/python install --require-hashes -r requirements.lock \
    && /tools/bin/pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY simulator ./simulator
COPY worker ./worker
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /tools/bin/pip --python /opt/kinetic-retry/bin/python install --no-deps --no-index /wheels/*.whl \
    && /opt/kinetic-retry/bin/python -m compileall -q /opt/kinetic-retry/lib

FROM python:${PYTHON_VERSION}-slim
# A number, so that `runAsNonRoot` can be checked, and fixed, so that a mounted secret can be given to it.
RUN groupadd --gid 10001 kinetic-retry \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kinetic-retry
COPY --from=build /opt/kinetic-retry /opt/kinetic-retry
# Everything is compiled already, and the root file system may be read-only: only /tmp is written to.
ENV PATH=/opt/kinetic-retry/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/kinetic-retry
USER 10001:10001
# Exec form: the worker gets the signals itself. SIGTERM ends it after the calls that are under way.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=3 CMD ["kinetic-retry", "health", "worker"]
ENTRYPOINT ["kinetic-retry"]
CMD ["worker"]
