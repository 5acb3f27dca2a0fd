FROM php:8.3-fpm-bookworm

ENV COMPOSER_ALLOW_SUPERUSER=1 PATH="${PATH}:/root/.composer/vendor/bin"

RUN set -eux; \
	savedAptMark="$(apt-mark showmanual)"; \
	apt-get update; \
	apt-get install -y --no-install-recommends \
		libfreetype6-dev \
		libjpeg-dev \
	; \
	\
	docker-php-ext-configure gd --with-freetype --with-jpeg; \
	docker-php-ext-install -j "$(nproc)" gd mysqli; \
	# reset apt-mark's "manual" list
	apt-mark auto '.*' > /dev/null; \
	[ -z "$savedAptMark" ] || apt-mark manual $savedAptMark; \
	find /usr/local -type f -exec sh -c 'ldd "$1" 2>/dev/null' _ '{}' \; | awk '/=>/ { print $(NF-1) }' | sort -u

COPY --from=composer:2 /usr/bin/composer /usr/bin/composer
VOLUME ["/var/www/html", "/var/lib/php/sessions"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["php-fpm"]
