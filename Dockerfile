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
ARG EXTRAS=gpu,pixart,serve,server,tensorboard,wan
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/mpo-*.whl)[${EXTRAS}]"
# Any user may write to these, so that `docker run --user` can be the owner of the folder with the runs.
RUN useradd --uid 1000 --home-dir /cache/home mpo && mkdir -p /cache/home /cache/huggingface /work && chmod -R 1777 /cache /work
ENV HOME=/cache/home USER=mpo HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["mpo"]
CMD ["--help"]
