FROM python:3-slim
WORKDIR /usr/src/app
ONBUILD ARG PIP_ARGS
ONBUILD COPY requirements.txt ./
ONBUILD RUN pip install $PIP_ARGS \
    -r requirements.txt
ONBUILD COPY <<EOF /usr/src/app/VERSION
${VERSION:-unknown}
EOF
ONBUILD COPY . .
CMD ["python", "main.py"]
