# syntax=docker/dockerfile:1
FROM debian:bookworm-slim
RUN <<EOT bash
  set -ex
  apt-get update
  apt-get install -y vim
EOT
RUN <<-'PY'
	#!/usr/bin/env python3
	print("tabs $HOME are gone")
	PY
ARG NAME=world
COPY <<-EOF /etc/motd
	Hello ${NAME},
	  it costs \$5.
EOF
COPY --chmod=755 <<"run" <<conf /usr/local/bin/
#!/bin/sh
exec "$@"
run
name=$NAME
conf
RUN cat <<A > /a && cat <<B > /b
a $NAME
A
b
B
CMD ["/usr/local/bin/run", "sh"]
