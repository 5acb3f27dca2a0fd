"""The daemon's configuration: dockerd's flags and the keys of its ``daemon.json``, in YAML or JSON.

``load`` reads, ``reload`` reads again on SIGHUP; ``Config`` is the immutable result.
"""

from minid.config.image_gc import ImageGc
from minid.config.kinds import Pool, Ulimit
from minid.config.load import load, reload
from minid.config.model import DEFAULT_FILE, Config, ConfigError, Source

__all__ = ["DEFAULT_FILE", "Config", "ConfigError", "ImageGc", "Pool", "Source", "Ulimit", "load", "reload"]
