# The pipeline and its notebooks. The source is mounted at /workspace in development and copied in for a plain run.
FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /workspace

# Requirements first: this layer is built again only when they change.
COPY requirements.txt ./
RUN pip install -r requirements.txt

RUN useradd --create-home --uid 1000 etl
USER etl

COPY --chown=etl:etl . .
CMD ["python", "main.py"]
