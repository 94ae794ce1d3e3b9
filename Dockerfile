# mpo on NVIDIA GPUs: docker build -t mpo . && docker run --rm --gpus all mpo doctor
# The host needs its driver and the NVIDIA Container Toolkit; CUDA's libraries come with PyTorch.
# docs/first-steps.md says how runs and the hub's cache are kept.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
RUN pip install --no-cache-dir "build>=1.2"
COPY pyproject.toml README.md LICENSE ./
COPY mpo mpo
COPY reward reward
COPY recipes recipes
RUN python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim
# A C compiler for Triton, by which train.compile and some kernels are built when they are first run.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /dist /dist
ARG EXTRAS=gpu,pixart,serve,server,tensorboard,wan
RUN pip install --no-cache-dir "$(echo /dist/mpo-*.whl)[${EXTRAS}]"
# Any user may write here, so that `docker run --user` can be the owner of the folder with the runs.
RUN useradd --create-home mpo && mkdir -p /cache/huggingface /work && chmod -R 1777 /cache /work
ENV HF_HOME=/cache/huggingface MPLCONFIGDIR=/cache/matplotlib TORCHINDUCTOR_CACHE_DIR=/cache/torchinductor \
    TRITON_CACHE_DIR=/cache/triton NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER mpo
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["mpo"]
CMD ["--help"]
