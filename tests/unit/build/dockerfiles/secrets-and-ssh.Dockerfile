# syntax=docker/dockerfile:1
FROM alpine
RUN apk add --no-cache git openssh-client
RUN mkdir -p -m 0700 ~/.ssh && ssh-keyscan git.example.org >> ~/.ssh/known_hosts
RUN --mount=type=ssh,id=deploy,required=true git clone git@git.example.org:team/app.git /app
RUN --mount=type=secret,id=aws,target=/root/.aws/credentials,mode=0400 \
    --mount=type=secret,id=API_TOKEN,env=API_TOKEN \
    --network=default \
    ./fetch "$API_TOKEN"
RUN --network=none --mount=type=tmpfs,target=/tmp,size=512m ./offline-test
