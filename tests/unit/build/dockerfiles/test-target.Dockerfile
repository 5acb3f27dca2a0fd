ARG BASE=busybox
ARG TAG=stable
FROM ${BASE}:${TAG} AS src
COPY . /src

FROM src AS test
RUN ["/bin/sh", "-ec", "cd /src; ./run-tests --all"]

FROM src AS lint
RUN --mount=from=src,source=/src,target=/mnt,rw cd /mnt && ./lint

FROM ${BASE}@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
COPY --from=0 /src/app /app
COPY --from=2 /src/report /report
HEALTHCHECK NONE
LABEL maintainer='a b' version=1.0
