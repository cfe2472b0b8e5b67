# The pipeline and its notebooks, for amd64 and arm64. The source is mounted over /workspace in development.
FROM python:3.11.14-slim-bookworm AS libraries

# For `docker image prune --filter label=…`: only images of this project.
LABEL org.opencontainers.image.title="homebuddy-leads-etl"

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /workspace

# Requirements first: this layer is built again only when they change. Wheels only: there is no compiler in here.
COPY requirements.txt requirements-dask.txt ./
RUN pip install --only-binary :all: --requirement requirements.txt --requirement requirements-dask.txt

# The dev container: git and make, and no source, because the checkout is mounted.
FROM libraries AS devcontainer
# Debian removes the old version of a package when it publishes a fix: a pinned one could not be installed any more.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
ARG UID=1000
RUN useradd --create-home --non-unique --uid "$UID" --shell /bin/bash etl
USER $UID

FROM libraries AS pipeline
# The owner of the mounted checkout, because nobody else can write to it. 0 is for rootless Docker, which maps 0 to that owner.
ARG UID=1000
RUN useradd --create-home --non-unique --uid "$UID" etl && chown "$UID" /workspace
COPY --chown=$UID . .
USER $UID
CMD ["python", "main.py"]
