from busybox:latest as base
arg greeting=hello
env GREETING=$greeting
run echo "$GREETING" \
  > /greeting
workdir /
from base
cmd ["cat", "/greeting"]
