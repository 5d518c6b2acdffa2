# vit-export for hosts without a GPU: ONNX, OpenVINO, Core ML packages and TensorRT-RTX engines, made and checked.
#
#   docker build --platform linux/amd64 -f docker/cpu.Dockerfile --build-arg REVISION="$(git rev-parse HEAD)" \
#       -t vit-export:cpu .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" -v vit-export-cache:/cache vit-export:cpu m2 -t openvino
#
# Needs BuildKit, which Docker builds with since version 23. No engine and no registry were at hand where this was
# written: it has not been built, and the base is pinned by its tag because its digest could not be looked up.
# `make rehearse` carries out every step below in a chroot of the same Debian release (docker/rehearse.py).

# To pin the bytes too: --build-arg PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm

FROM ${PYTHON_IMAGE} AS build

# PyTorch's own index has the pinned release without CUDA, which this image has no use for and which is 4.5 GB.
# TORCH_INDEX=https://pypi.org/simple takes the build that constraints.txt was written from.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# hadolint knows a cache mount for pip by a name that ends in .cache/pip.
ENV PATH=/opt/vit-export/bin:$PATH \
    PIP_CACHE_DIR=/var/.cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /src
COPY constraints.txt ./
# From that index torch alone: whatever it depends on comes with the rest, from PyPI and pinned.
RUN --mount=type=cache,target=/var/.cache/pip \
    python -m venv /opt/vit-export \
    && pip install -c constraints.txt pip setuptools \
    && pip install -c constraints.txt --index-url "$TORCH_INDEX" --no-deps torch

COPY pyproject.toml README.md LICENSE ./
COPY efficientvit efficientvit
COPY runtimes runtimes
COPY validation validation
COPY export export
RUN --mount=type=cache,target=/var/.cache/pip \
    pip install --no-build-isolation -c constraints.txt '.[openvino,coreml,tensorrt,cluster]' \
    && pip check


FROM ${PYTHON_IMAGE}

ARG PYTHON_IMAGE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vit-export (CPU)" \
      org.opencontainers.image.description="Exports EfficientViT M0-M5 and checks every artifact before it is timed" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

# Anybody may write to the two folders that a run writes to, so that `--user "$(id -u):$(id -g)"` needs no other image.
RUN useradd --uid 1000 --home-dir /cache --no-create-home --shell /usr/sbin/nologin vit \
    && install --directory --owner=vit --group=vit --mode=1777 /cache /data /data/exports

COPY --from=build /opt/vit-export /opt/vit-export

# HOME for users whom /etc/passwd does not know: the engine would give them the root folder.
ENV PATH=/opt/vit-export/bin:$PATH \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    VIT_EXPORT_IMAGE=cpu \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /data
ENTRYPOINT ["vit-export"]
CMD ["--help"]
