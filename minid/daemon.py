"""The daemon: makes the services, wires them together, serves until told to stop. Holds no state of its own.

``run`` is called by ``minid.cli`` with the data root locked and the pid file written.
"""

import asyncio
import logging
import signal
from pathlib import Path

from minid import doctor, hostinfo, logfmt, sdnotify, tables
from minid.api.listeners import Listener, open_listeners
from minid.api.server import Server
from minid.api.services import Services
from minid.api.tls import TlsContexts, TlsFiles
from minid.build.service import Builds
from minid.config import Config
from minid.config import reload as reload_config
from minid.containers import defaults, health, host
from minid.containers.bundle import Bundles
from minid.containers.contents import Contents
from minid.containers.create import Creation
from minid.containers.execs import Execs
from minid.containers.filters import Lookups
from minid.containers.groups import Groups
from minid.containers.healthchecks import HealthChecks
from minid.containers.naming import Naming
from minid.containers.networking import Networking
from minid.containers.news import News
from minid.containers.runner import Runner
from minid.containers.service import Containers
from minid.containers.store import Store
from minid.containers.tasks import Tasks
from minid.errors import Failed, MinidError
from minid.events import EventBus
from minid.images.gc import Schedule
from minid.images.gc_plan import Policy
from minid.images.registries import Registries
from minid.images.service import UNUSED_KEEP_S, Images
from minid.images.snapshots import Snapshots
from minid.kernel import memory
from minid.kernel.cgroups import Tree
from minid.layout import Layout
from minid.network.holder import PortHolder
from minid.network.nameservers import Nameservers
from minid.network.service import Networks
from minid.shim.client import Forkserver, Jobs
from minid.state import Database
from minid.volumes.service import Volumes

# imported by the forkserver of jobs before it forks anything: jobs may import nothing later
PRELOAD = (
    "minid.images.layers",
    "minid.volumes.copyup",
    "minid.containers.archive_jobs",
    "minid.build.receive_jobs",
    "minid.build.copy_jobs",
    "minid.build.git_jobs",
)

HOUSEKEEPING_S = 3600.0
TLS_DIRECTORY = Path("/etc/minid/tls")

log = logging.getLogger(__name__)


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Containers go on running afterwards."""
    listeners = open_listeners(config.hosts, config.group)
    try:
        asyncio.run(_serve(config, listeners))
    finally:
        for listener in listeners:
            listener.close()
    return 0


class Daemon:
    """The services of one daemon, in the order of their dependencies."""

    def __init__(self, config: Config) -> None:
        layout = Layout(config.data_root, config.exec_root)
        self.database = Database(layout.database)
        self.database.migrate_all(tables.SCHEMAS, tables.KNOWN)
        for directory in (layout.blobs, layout.containers, layout.volumes, layout.snapshots, layout.shims):
            directory.mkdir(mode=0o710, exist_ok=True)
        self.forkserver = Forkserver()
        self.jobs = Jobs(PRELOAD)
        self.events = EventBus()
        tree = Tree.open(config.cgroup_parent or None, resident=self.forkserver.pid)
        self.forkserver.on_restart = tree.adopt
        facts = host.gather(tree)
        self.snapshots = Snapshots(layout, config.storage_driver or None, self.jobs)
        self.images = Images(
            self.database,
            layout,
            self.snapshots,
            self.events,
            self.jobs,
            registries=Registries(
                insecure=config.insecure_registries,
                rules=config.registries,
                mirrors=config.registry_mirrors,
            ),
            downloads_max=config.max_concurrent_downloads,
            uploads_max=config.max_concurrent_uploads,
        )
        self.volumes = Volumes(layout, self.database, self.events)
        store = Store(self.database)
        tasks = self.tasks = Tasks(layout, self.forkserver)
        groups = Groups(tree)
        news = News(self.events)
        self._engine_id = hostinfo.ensure_engine_id(config.data_root)
        self.networks = Networks(
            self.database,
            self.events,
            config,
            self._engine_id,
            PortHolder(self.forkserver, config.exec_root / "ports.sock"),
        )
        self.nameservers = Nameservers(self.networks)
        naming = Naming(layout, store, self.networks, self.nameservers)
        self.networking = Networking(layout, store, self.networks, naming, config.host_gateway_ips)
        bundles = Bundles(layout, facts, store.get, self.networking, _seccomp_profile(config))
        execs = Execs(store, tasks, bundles, news)
        checks = HealthChecks(store, execs, groups, news)
        runner = Runner(
            layout,
            store,
            bundles,
            tasks,
            self.snapshots,
            self.volumes,
            groups,
            execs,
            self.networking,
            news,
            checks,
        )
        creation = Creation(
            layout,
            store,
            self.images,
            self.snapshots,
            self.volumes,
            self.jobs,
            self.networking,
            facts,
            lambda host_config: defaults.apply(host_config, self._config),
        )
        contents = Contents(self.snapshots, self.jobs)
        lookups = Lookups(
            images=self._images_named,
            networks=self.networking.names_and_ids,
            health=health.health_status,
        )
        self.containers = Containers(
            store,
            creation,
            bundles,
            tasks,
            groups,
            execs,
            runner,
            contents,
            self.networking,
            news,
            facts,
            lookups,
        )
        self.images.in_use = self.containers.users_of_image
        self.images.is_running = lambda container_id: store.get(container_id).state.running
        self.builds = Builds(
            self.database, layout, self.images, self.containers, self.snapshots, self.jobs, config.builder
        )
        self.images.held_layers = lambda: store.diff_ids() | self.builds.cache.diff_ids()
        self.volumes.users = self.containers.users_of_volume
        self._config = config
        self._repairing: asyncio.Task[None] | None = None

    def _images_named(self, name: str) -> list[str]:
        image = self.images.find(name)
        return [image.id] if image is not None else []

    def services(self) -> Services:
        return Services(
            images=self.images,
            containers=self.containers,
            volumes=self.volumes,
            networks=self.networks,
            networking=self.networking,
            builds=self.builds,
            events=self.events,
            config=self._config,
            info=self._info,
            engine_id=self._engine_id,
            rootfs=lambda container: self.snapshots.rootfs(container.id, container.diff_ids),
            doctor=self._findings,
        )

    async def _findings(self) -> tuple[doctor.Finding, ...]:
        storage = doctor.Storage(self.snapshots.driver_name, self.snapshots.because, self.snapshots.refused)
        bridges = tuple(network.device for network in self.networks.all() if network.driver == "bridge")
        facts = await asyncio.to_thread(
            doctor.gather,
            self._config,
            known=tables.KNOWN,
            storage=storage,
            bridges=bridges,
            serving=True,
        )
        return doctor.findings(facts)

    def _info(self) -> hostinfo.HostInfo:
        config = self._config
        return hostinfo.gather(
            engine_id=self._engine_id,
            data_root=config.data_root,
            driver_name=self.snapshots.driver_name,
            insecure_registries=config.insecure_registries,
            registry_mirrors=config.registry_mirrors,
            labels=config.labels,
            debug=config.debug,
        )

    def reload(self) -> None:
        """Read the configuration again: what may change while running does, the log names what waits for a restart."""
        sdnotify.reloading()
        try:
            config, applied, waiting = reload_config(self._config)
            self.images.registries.reload(
                config.insecure_registries, config.registries, config.registry_mirrors
            )
        except MinidError as error:
            log.error("the configuration is wrong, the old one stays in force", extra={"error": error})
        else:
            self._config = config
            self.images.schedule_collection(_collection(config))
            self.builds.policy = config.builder
            logfmt.configure(config.effective_log_level, config.log_format)
            log.info("configuration read again", extra={"changed": ",".join(applied) or "nothing"})
            if waiting:
                log.warning("these options change at the next start", extra={"options": ",".join(waiting)})
            self._repairing = asyncio.get_running_loop().create_task(self.networks.repair())
        sdnotify.ready("listening")

    async def start(self) -> None:
        """Bring the disk and the records in line with what really runs."""
        await self.snapshots.start()
        await self.images.clean_up()
        await self.builds.clean_up()
        await self.networks.start()
        await self.containers.reconcile()
        await self.networking.retain_running()
        self.tasks.ensure_spare()
        self.images.schedule_collection(_collection(self._config))

    async def close(self) -> None:
        await self.builds.close()
        await self.containers.close()
        self.nameservers.close_all()
        await self.networks.close()
        await self.images.close()
        await self.snapshots.close()
        self.jobs.close()
        self.forkserver.close()
        self.database.close()


async def _serve(config: Config, listeners: list[Listener]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(config)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    await daemon.start()
    server = Server(daemon.services())
    contexts = _tls_contexts(config)
    for listener in listeners:
        if contexts is not None and listener.address.startswith("tcp://"):
            await server.serve_tls(listener.sock, contexts)
        else:
            await server.serve(listener.sock)
        if listener.address.startswith("tcp://") and not config.tlsverify:
            told = {"address": listener.address, "insecure_tcp_i_know": config.insecure_tcp_i_know}
            log.warning("WHOEVER REACHES THIS PORT IS ROOT ON THIS MACHINE", extra=told)
    sdnotify.notify("READY=1")
    log.info(
        "listening", extra={"hosts": ",".join(config.hosts), "storage_driver": daemon.snapshots.driver_name}
    )
    memory.trim()
    housekeeping = loop.create_task(_keep_house(daemon))
    collecting = loop.create_task(daemon.images.collect_by_schedule())
    await stop.wait()
    housekeeping.cancel()
    collecting.cancel()
    sdnotify.notify("STOPPING=1")
    log.info("stopping; containers go on running")
    await server.close()
    await daemon.close()


async def _keep_house(daemon: Daemon) -> None:
    """Now and then, remove what pulls that nobody took up again have left."""
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        try:
            daemon.images.note_uses()
            freed_bytes = await daemon.images.sweep(older_than_s=UNUSED_KEEP_S)
        except Exception:
            log.exception("housekeeping failed")
        else:
            if freed_bytes:
                log.info("removed what no image needs", extra={"freed_bytes": freed_bytes})


def _collection(config: Config) -> Schedule | None:
    """When images are to be collected; None: never by itself."""
    gc = config.image_gc
    if gc is None:
        return None
    policy = Policy(gc.max_age_s, gc.max_size_bytes, gc.min_free_bytes, gc.tagged)
    return Schedule(policy, gc.interval_s)


def _tls_contexts(config: Config) -> TlsContexts | None:
    """How TCP clients are spoken to; None: without TLS. ``StartupError``."""
    if not (config.tls or config.tlsverify):
        return None
    files = TlsFiles(
        Path(config.tlscert or TLS_DIRECTORY / "cert.pem"),
        Path(config.tlskey or TLS_DIRECTORY / "key.pem"),
        Path(config.tlscacert or TLS_DIRECTORY / "ca.pem") if config.tlsverify else None,
        Path(config.tlscrl) if config.tlscrl else None,
    )
    return TlsContexts(files)


def _seccomp_profile(config: Config) -> str:
    """The text of the configured default profile; "" for the built-in one."""
    if config.seccomp_profile in ("", "builtin", "unconfined"):
        return ""
    try:
        return Path(config.seccomp_profile).read_text()
    except OSError as error:
        raise Failed(f"seccomp-profile {config.seccomp_profile}: {error.strerror}") from error
