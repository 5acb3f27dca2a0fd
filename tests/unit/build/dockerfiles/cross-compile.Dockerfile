# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM tonistiigi/xx:1.4.0 AS xx

FROM --platform=$BUILDPLATFORM alpine AS base-amd64
FROM --platform=$BUILDPLATFORM alpine AS base-arm64

ARG TARGETARCH
FROM base-${TARGETARCH} AS base
COPY --from=xx / /
ARG TARGETPLATFORM
ARG TARGETOS TARGETARCH TARGETVARIANT
RUN echo "I am running on $(uname -m), building for ${TARGETPLATFORM}" && xx-info env

FROM scratch AS binaries
COPY --from=base /log /log-${TARGETARCH:-none}
