# Model Surgery on a CPU. Works as a Docker Space on Hugging Face; docs/deploy.md has the header that it needs.
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 surgeon
WORKDIR /home/surgeon
ENV HF_HOME=/home/surgeon/.cache/huggingface \
    MODEL_SURGERY_LOG=- \
    OMP_NUM_THREADS=1 \
    PATH=/home/surgeon/.local/bin:$PATH \
    PYTHONUNBUFFERED=1

USER surgeon
COPY --chown=surgeon requirements.txt .
# Build with --build-arg PIP_ARGS="--index-url ..." to take torch's smaller CPU build.
ARG PIP_ARGS=""
RUN python -m pip install --user --no-cache-dir ${PIP_ARGS} "$(grep ^torch== requirements.txt)" \
    && python -m pip install --user --no-cache-dir -r requirements.txt
COPY --from=wheel /dist /dist
RUN python -m pip install --user --no-cache-dir --no-deps /dist/*.whl

EXPOSE 8501
HEALTHCHECK --interval=30s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
CMD ["model-surgery", "--address=0.0.0.0", "--port=8501", "--no-browser"]
