# Model Surgery on a CPU. Works as a Docker Space on Hugging Face (sdk: docker, app_port: 8501).
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 surgeon
WORKDIR /home/surgeon/app
ENV HF_HOME=/home/surgeon/.cache/huggingface \
    OMP_NUM_THREADS=1 \
    PATH=/home/surgeon/.local/bin:$PATH \
    PYTHONUNBUFFERED=1

USER surgeon
COPY --chown=surgeon requirements.txt .
# Build with --build-arg PIP_ARGS="--index-url ..." to take torch's smaller CPU build.
ARG PIP_ARGS=""
RUN python -m pip install --user --no-cache-dir ${PIP_ARGS} "$(grep ^torch== requirements.txt)" \
    && python -m pip install --user --no-cache-dir -r requirements.txt

COPY --chown=surgeon . .

EXPOSE 8501
HEALTHCHECK --interval=30s --start-period=60s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
CMD ["streamlit", "run", "app.py", "--server.port=8501", "--server.address=0.0.0.0"]
