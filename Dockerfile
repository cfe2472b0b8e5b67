# Image of the pipeline and its notebooks, for amd64 and arm64. In development, the source is mounted over /workspace.
FROM python:3.11.14-slim-bookworm AS libraries

# So that `docker image prune --filter label=…` removes only images of this project.
LABEL org.opencontainers.image.title="homebuddy-leads-etl"

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /workspace

# Requirements first, so that this layer is rebuilt only when they change. Wheels only, because the image has no compiler.
COPY requirements.txt requirements-dask.txt ./
RUN pip install --only-binary :all: --requirement requirements.txt --requirement requirements-dask.txt

# The dev container: adds git and make, but no source, because the checkout is mounted.
FROM libraries AS devcontainer
# Debian removes the old version of a package when it publishes a fix, so a pinned version could no longer be installed.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
ARG UID=1000
RUN useradd --create-home --non-unique --uid "$UID" --shell /bin/bash etl
USER $UID

FROM libraries AS pipeline
# UID of the owner of the mounted checkout: other users cannot write to it. Use 0 for rootless Docker, which maps 0 to that owner.
ARG UID=1000
RUN useradd --create-home --non-unique --uid "$UID" etl && chown "$UID" /workspace
COPY --chown=$UID . .
USER $UID
CMD ["python", "main.py"]
