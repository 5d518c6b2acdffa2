# vit-export for hosts without a GPU: ONNX, OpenVINO and Core ML packages.
#
#   docker build -f docker/cpu.Dockerfile -t vit-export:cpu .
#   docker run --rm -v "$PWD/out:/home/vit/out" vit-export:cpu m2 --target onnx --out out/m2
#
# Written and linted without a registry to pull the base image from: this file has not been built yet.

FROM python:3.11.14-slim-bookworm AS build

# PyTorch's index of CPU-only wheels, if given, leaves about 4.5 GB of CUDA libraries out of the image.
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN python -m venv /opt/vit-export
ENV PATH=/opt/vit-export/bin:$PATH

WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt pip setuptools \
    && pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch

COPY pyproject.toml README.md LICENSE ./
COPY efficientvit efficientvit
COPY runtimes runtimes
COPY validation validation
COPY export export
RUN pip install --no-build-isolation -c constraints.txt '.[openvino,coreml]'


FROM python:3.11.14-slim-bookworm

# OpenMP, which torch's and OpenVINO's CPU kernels link against.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 vit

COPY --from=build /opt/vit-export /opt/vit-export
ENV PATH=/opt/vit-export/bin:$PATH PYTHONUNBUFFERED=1

USER 1000
WORKDIR /home/vit
ENTRYPOINT ["vit-export"]
CMD ["--help"]
