FROM nginx:1.25-alpine
LABEL org.opencontainers.image.title="Our site" \
      org.opencontainers.image.authors="web@example.org" \
      org.opencontainers.image.description="Static pages, \
and nothing else"
RUN rm -rf /usr/share/nginx/html/*
COPY nginx.conf /etc/nginx/conf.d/default.conf
COPY public/ /usr/share/nginx/html/
EXPOSE 80
STOPSIGNAL SIGQUIT
