# Carousel's images. docs/operations.md says how to build them, how large they are and what was tried.
#
#   server, the default   docker build -t carousel-server .
#   server with CUDA      docker build -t carousel-server:gpu --build-arg VARIANT=gpu .
#   exporter              docker build -t carousel-exporter --target exporter .
#
# BASE is any image with Python 3.11 or newer as `python3` and its venv module; by a digest it is the
# same one every time: --build-arg BASE=python:3.12-slim-bookworm@sha256:...
# pip's own variables, given as build arguments of the same names, say where packages come from; each
# stage that installs declares them, because not every builder hands them on.
ARG BASE=python:3.12-slim-bookworm

# Our wheels, and the pip that fills the environments below, which have none themselves.
FROM ${BASE} AS wheels
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
WORKDIR /source
COPY image/build.txt image/
RUN python3 -m venv /build \
 && /build/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r image/build.txt
COPY proto proto
COPY server server
RUN /build/bin/python -m pip wheel --no-build-isolation --no-deps --wheel-dir /wheels ./proto ./server

FROM wheels AS exporter-wheels
COPY exporter exporter
RUN /build/bin/python -m pip wheel --no-build-isolation --no-deps --wheel-dir /wheels ./exporter

# The server's environment. Bytecode is made here, because the image can't be written to when it runs,
# and is taken as it is (unchecked): it holds no times, and no source file is looked at.
FROM wheels AS server-environment
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG VARIANT=cpu
COPY image/${VARIANT}.txt image/
RUN python3 -m venv --without-pip /opt/carousel \
 && /build/bin/python -m pip --python /opt/carousel/bin/python install --no-cache-dir --no-compile \
      --require-hashes --only-binary :all: -r image/${VARIANT}.txt \
 && /build/bin/python -m pip --python /opt/carousel/bin/python install --no-cache-dir --no-compile \
      --no-index --no-deps /wheels/*.whl \
 && /opt/carousel/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/carousel/lib

# pip makes the bytecode here: it passes over the files of PyTorch that are for other Pythons.
FROM exporter-wheels AS exporter-environment
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
COPY image/exporter.txt image/torch.txt image/
RUN python3 -m venv --without-pip /opt/carousel \
 && /build/bin/python -m pip --python /opt/carousel/bin/python install --no-cache-dir \
      --require-hashes --only-binary :all: -r image/exporter.txt -r image/torch.txt \
 && /build/bin/python -m pip --python /opt/carousel/bin/python install --no-cache-dir \
      --no-index --no-deps /wheels/carousel_proto-*.whl /wheels/carousel_exporter-*.whl

# Reads CSV files and models, and writes models, in /data: mount a folder there.
FROM ${BASE} AS exporter
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="carousel-exporter" \
      org.opencontainers.image.description="Trains recurrent networks in PyTorch and makes them into ONNX files that Carousel serves" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY LICENSE /opt/carousel/
COPY --from=exporter-environment /opt/carousel /opt/carousel
ENV PATH=/opt/carousel/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["carousel-export"]
CMD ["--help"]

# The server is process 1 itself: it drains on SIGTERM, and starts no processes that it would have to
# reap. It writes nothing, needs no shell and no name for its user.
FROM ${BASE} AS server
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="carousel-server" \
      org.opencontainers.image.description="Stateful gRPC server for recurrent ONNX models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY LICENSE /opt/carousel/
COPY --from=server-environment /opt/carousel /opt/carousel
# What NVIDIA's container runtime mounts where it gives the container a GPU.
ENV PATH=/opt/carousel/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CAROUSEL_MODELS=/models
WORKDIR /
USER 10001:10001
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
ENTRYPOINT ["carousel-server"]
