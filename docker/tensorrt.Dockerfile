# vit-export for hosts with an NVIDIA GPU: engines of enterprise TensorRT, built, run, compared and timed there.
#
#   docker build -f docker/tensorrt.Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" -t vit-export:tensorrt .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" -v vit-export-cache:/cache \
#       vit-export:tensorrt m2 -t tensorrt
#
# For x86-64 hosts with the NVIDIA Container Toolkit and a driver for CUDA 13 (branch R580 or newer). Needs BuildKit,
# which Docker builds with since version 23. It has not been built, nor has any of it run on a GPU, by us: neither an
# engine, nor NVIDIA's registry, nor a GPU was at hand. Its steps were carried out in a Debian chroot with Python 3.12
# and an empty module in the place of the container's TensorRT.

# Release 26.07 carries TensorRT 11.1.0.106, CUDA 13.3 and Ubuntu 24.04 with Python 3.12. That rests on what NVIDIA's
# TensorRT-Model-Connect asserts of the tag (of its ARM64 build) and on other public Dockerfiles, not on a look inside;
# the build below fails if the version is another. To pin the bytes too:
# --build-arg TENSORRT_IMAGE=nvcr.io/nvidia/tensorrt:26.07-py3@sha256:...
ARG TENSORRT_IMAGE=nvcr.io/nvidia/tensorrt:26.07-py3

FROM ${TENSORRT_IMAGE} AS build

ARG TENSORRT_VERSION=11.1.0.106

# NVIDIA's images may bring pip constraints of their own, which would contradict ours: emptied.
ENV PATH=/opt/vit-export/bin:$PATH \
    PIP_CONSTRAINT="" \
    PIP_CACHE_DIR=/var/.cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY constraints.txt ./
# An environment that sees nothing of the container while pip resolves: every package is the one that is pinned.
RUN --mount=type=cache,target=/var/.cache/pip \
    python3 -m venv /opt/vit-export \
    && pip install -c constraints.txt pip setuptools \
    && pip install -c constraints.txt torch

COPY pyproject.toml README.md LICENSE ./
COPY efficientvit efficientvit
COPY runtimes runtimes
COPY validation validation
COPY export export
# The extra is TensorRT-RTX, for engines built ahead of time; it is a package and a library of its own.
RUN --mount=type=cache,target=/var/.cache/pip \
    pip install --no-build-isolation -c constraints.txt '.[tensorrt,cluster]' \
    && pip check

# Last, the container's TensorRT: a line in a .pth file puts the folder that it lies in at the end of the search path,
# so that the container's numpy, protobuf and the like stay behind ours. Importing it needs no GPU.
RUN /usr/bin/python3 -c 'import pathlib, tensorrt; print(pathlib.Path(tensorrt.__file__).parents[1])' \
        > "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/container-tensorrt.pth" \
    && python -c "import sys, numpy, tensorrt, torch; \
assert tensorrt.__version__ == '${TENSORRT_VERSION}', tensorrt.__version__; \
assert numpy.__file__.startswith(sys.prefix), numpy.__file__; \
assert torch.__file__.startswith(sys.prefix), torch.__file__"


FROM ${TENSORRT_IMAGE}

ARG TENSORRT_IMAGE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vit-export (TensorRT)" \
      org.opencontainers.image.description="Exports EfficientViT M0-M5 and checks every artifact before it is timed" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${TENSORRT_IMAGE}"

# Ubuntu's images come with a user 1000, `ubuntu`, in whose place ours goes.
# Anybody may write to the two folders that a run writes to, so that `--user "$(id -u):$(id -g)"` needs no other image.
RUN if taken="$(id -nu 1000 2>/dev/null)"; then userdel "$taken"; fi \
    && useradd --uid 1000 --home-dir /cache --no-create-home --shell /usr/sbin/nologin vit \
    && install --directory --owner=vit --group=vit --mode=1777 /cache /data /data/exports

COPY --from=build /opt/vit-export /opt/vit-export

# HOME for users whom /etc/passwd does not know: the engine would give them the root folder.
ENV PATH=/opt/vit-export/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    VIT_EXPORT_IMAGE=tensorrt \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /data
# In the place of NVIDIA's entry point, whose banner would stand before the manifests that --json prints.
ENTRYPOINT ["vit-export"]
CMD ["--help"]
