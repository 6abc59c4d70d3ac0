"""``reglab train``: the Hydra application.

An error in the configuration is reported in one message.
"""

import os
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from reglab.cli.configured_store import TRACKING_URI, check_configured_store, check_new_run, name_given_stores
from reglab.cli.import_path import trust_given
from reglab.cli.questions import asker
from reglab.cli.run_mode import amend, compose_command
from reglab.cli.single_run import train_one
from reglab.config.class_weight import with_pairs
from reglab.config.config_loader import create_hydra
from reglab.config.error_messages import explain, group_options
from reglab.config.hydra_context import folder_of, names_of_hydra
from reglab.config.paths import conf_dir
from reglab.config.sweep_functions import rewrite
from reglab.config.trust import trust, trusted_packages
from reglab.config.used_keys import check_used
from reglab.config.validate import check_config, check_secrets
from reglab.core import secrets, signals
from reglab.core.errors import UserError, is_recorded
from reglab.launchers import task
from reglab.processes import rank_consistency, rank_environment
from reglab.tracking.folder_gate import check_name
from reglab.tracking.own_folder import check_own_folder
from reglab.tracking.store_gate import asking

_CONFIG_NAME = "train"
# Flags of Hydra that reglab replaces.
_UNSUPPORTED_FLAGS = ("config_path", "experimental_rerun", "hydra_help", "shell_completion")


def train(arguments: Sequence[str]) -> int:
    """Run ``reglab train`` and return its exit code: 0 all finished, 1 a job failed.

    Args:
        arguments: Of the command line.

    Raises:
        UserError: For a configuration that cannot run.
        KeyboardInterrupt: Also for SIGTERM.
    """
    options = get_args_parser().parse_intermixed_args(list(arguments))
    trust_given(options.overrides)
    return _command(options)


def resume_sweep(folder: Path, overrides: Sequence[str], config_name: str | None, config_dir: str | None) -> int:
    """Run a sweep's command again, as ``train``, of which a file recorded the parts.

    Args:
        folder: Of the sweep that it must turn out to be.
        overrides: Of the sweep; none is taken for an option, however it begins.
        config_name, config_dir: The options of these names.
    """
    options = get_args_parser().parse_args(["--multirun"])
    options.overrides, options.config_name, options.config_dir = list(overrides), config_name, config_dir
    return _command(options, folder)


def _command(options: Any, resume: Path | None = None) -> int:
    check_name(Path.cwd())
    secrets.watch()
    version.setbase("1.3")
    hydra = create_hydra(_search_path(options.config_dir))
    try:
        with signals.handle_signals():
            return _run(hydra, options, resume)
    except Exception as error:
        if is_recorded(error):
            raise
        message = None
        with suppress(OSError, MemoryError):  # a machine that is out of files or memory
            message = explain(error, group_options(hydra.config_loader))
        if message is None or isinstance(error, UserError) or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        raise UserError(message) from error
    finally:
        GlobalHydra.instance().clear()


def _run(hydra: Hydra, options: Any, resume: Path | None) -> int:
    for flag in _UNSUPPORTED_FLAGS:
        if getattr(options, flag):
            raise UserError(f"reglab train has no --{flag.replace('_', '-')}; see reglab train --help")
    name = options.config_name or _CONFIG_NAME
    overrides = rewrite(with_pairs(options.overrides))
    if options.cfg:
        shown = hydra.compose_config(name, overrides, RunMode.RUN)
        check_config(shown)
        check_used(shown)
        hydra.show_cfg(name, overrides, options.cfg, options.package, options.resolve)
        return 0
    if options.info:
        hydra.show_info(options.info, config_name=name, overrides=overrides)
        return 0
    check_secrets(overrides)
    mode, config = compose_command(hydra, name, overrides, options.multirun)
    check_config(config)
    if not resume:  # a sweep that an earlier version began may have keys that nothing reads
        check_used(config)
    with asking(asker() if rank_environment.process_rank().first else None):
        if not resume:
            name_given_stores(config, overrides)
            check_new_run(config)
        check_configured_store(config, Path.cwd(), TRACKING_URI)
    rank_consistency.check_started_processes(config, sweep=mode == RunMode.MULTIRUN)
    if mode == RunMode.RUN:
        written = names_of_hydra(config)  # by the first rank, which may be ahead
        amend(config, rank_consistency.shared_folder_overrides(config, overrides))
        OmegaConf.clear_cache(config)  # of ${now:}, which all ranks agree on by now
        _check_folder(config, "hydra.run.dir", written)
        return train_one(hydra, name, config, " ".join(overrides) or "one run")
    return _exit_code(_sweep(hydra, name, config, resume))


def _sweep(hydra: Hydra, name: str, config: DictConfig, resume: Path | None) -> object:
    """Do what ``Hydra.multirun`` does with a config that is composed already."""
    _check_folder(config, "hydra.sweep.dir", names_of_hydra(config))
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = Callbacks(config)
    callbacks.on_multirun_start(config=config, config_name=name)
    sweeper: Any = Plugins.instance().instantiate_sweeper(
        config=config,
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        task_function=partial(_task, tuple(trusted_packages())),
    )
    arguments = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    result: object = sweeper.sweep(arguments, resume) if resume else sweeper.sweep(arguments)
    callbacks.on_multirun_end(config=config, config_name=name)
    return result


def _check_folder(config: DictConfig, key: str, written: Collection[str]) -> None:
    """Refuse a folder that holds other files than a run's, and what Hydra writes, before it does."""
    check_own_folder(folder_of(config, key), key, written)


def _task(trusted: Sequence[str], config: DictConfig) -> object:
    trust(*trusted)  # another launcher's process has only what is handed to it
    return task.train(config)


def _exit_code(result: object) -> int:
    from reglab.sweeps.sweep import SweepResult  # late: a single run needs none of it

    if not isinstance(result, SweepResult):
        return 0  # another sweeper, which raises if a job failed
    if result.failures:
        print(result.failures, file=sys.stderr)
    return 0 if result.complete else 1


def _search_path(extra: str | None) -> ConfigSearchPathImpl:
    path = create_config_search_path(str(conf_dir()))
    assert isinstance(path, ConfigSearchPathImpl)
    if extra is not None:
        folder = os.path.abspath(extra)  # noqa: PTH100 - Hydra wants text
        if not os.path.isdir(folder):  # noqa: PTH112 - as above
            raise UserError(f"--config-dir {extra}: there is no such folder")
        check_name(Path(folder))
        path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    return path
