# syntax=docker/dockerfile:1.20
FROM scratch
COPY --parents --exclude=**/*_test.go ./src/**/*.go go.mod /build/
COPY --chmod=u=rwX,go=rX --chown=10:11 --link=true ["with blank.txt", "also this", "/data dir/"]
COPY arr[[]0].txt index.?s [a-c]*.md /docs/
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/linux-0.01.tar.gz /
ADD --keep-git-dir=true https://github.com/moby/buildkit.git#v0.10.1 /buildkit
ADD --unpack=false rootfs.tar.xz /
