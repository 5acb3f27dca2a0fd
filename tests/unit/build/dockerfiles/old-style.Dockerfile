FROM ubuntu:14.04
MAINTAINER Joe Doe <joe@example.org>

ENV DEBIAN_FRONTEND noninteractive
ENV LANG en_US.UTF-8
RUN apt-get update

RUN apt-get install -y \
    apache2 \

    php5

ADD site.tar.gz /var/www
ADD http://example.org/conf.d/site.conf /etc/apache2/sites-enabled/
EXPOSE 80 443
CMD /usr/sbin/apache2ctl -D FOREGROUND
