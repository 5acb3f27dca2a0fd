-- The tables as the first release made them (0.1.0). Never to be changed: data roots like this are in use.

-- images
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    manifest_digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    created TEXT NOT NULL,
    diff_ids TEXT NOT NULL,
    parent_id TEXT NOT NULL DEFAULT '',
    last_tagged_ns INTEGER NOT NULL DEFAULT 0,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE image_names (
    reference TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX image_names_by_image ON image_names (image_id);
CREATE TABLE image_blobs (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (image_id, digest)
) WITHOUT ROWID;
CREATE INDEX image_blobs_by_digest ON image_blobs (digest);
CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    diff_id TEXT NOT NULL,
    PRIMARY KEY (image_id, diff_id)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_diff_id ON image_layers (diff_id);
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    unpacked_ns INTEGER NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- image_sources
CREATE TABLE image_sources (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    domain TEXT NOT NULL,
    path TEXT NOT NULL,
    seen_ns INTEGER NOT NULL,
    PRIMARY KEY (image_id, domain, path)
) WITHOUT ROWID;

-- image_uses
CREATE TABLE image_uses (
    image_id TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    used_ns INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO image_uses SELECT id, CAST(strftime('%s', 'now') AS INTEGER) * 1000000000 FROM images;

-- made_layers
CREATE TABLE made_layers (
    diff_id TEXT PRIMARY KEY,
    tar_bytes INTEGER NOT NULL,
    blob_digest TEXT NOT NULL DEFAULT '',
    blob_bytes INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- volumes
CREATE TABLE volumes (
    name TEXT PRIMARY KEY, driver TEXT NOT NULL, created_ns INTEGER NOT NULL, labels TEXT NOT NULL,
    options TEXT NOT NULL, anonymous INTEGER NOT NULL
);

-- containers
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    state TEXT NOT NULL
);

-- networks
CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
);
CREATE TABLE sandboxes (
    container_id TEXT PRIMARY KEY,
    record TEXT NOT NULL
);
CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    network_id TEXT NOT NULL REFERENCES networks (id),
    container_id TEXT NOT NULL REFERENCES sandboxes (container_id) ON DELETE CASCADE,
    record TEXT NOT NULL,
    UNIQUE (container_id, network_id)
);
CREATE TABLE addresses (
    network_id TEXT NOT NULL,
    address TEXT NOT NULL,
    endpoint_id TEXT NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    PRIMARY KEY (network_id, address)
) WITHOUT ROWID;
CREATE INDEX addresses_of_endpoint ON addresses (endpoint_id);

-- build_cache
CREATE TABLE build_cache (
    key TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    description TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    last_used_ns INTEGER NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX build_cache_by_diff_id ON build_cache (diff_id);
CREATE TABLE built_images (
    key TEXT PRIMARY KEY,
    image_id TEXT NOT NULL
) WITHOUT ROWID;
