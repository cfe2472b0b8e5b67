# The pipeline and its notebooks, for amd64 and arm64. The source is mounted over /workspace in development.
FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

RUN useradd --create-home --uid 1000 etl && install --directory --owner=etl --group=etl /workspace
WORKDIR /workspace

# Requirements first: this layer is built again only when they change. Wheels only: there is no compiler in here.
COPY requirements.txt requirements-dask.txt ./
RUN pip install --only-binary :all: --requirement requirements.txt --requirement requirements-dask.txt

COPY --chown=1000:1000 . .
USER 1000:1000
CMD ["python", "main.py"]
