"""The ``mmsmt`` command: a subcommand for each tool.

``tools/train.py`` and ``mmsmt train`` run the same code: the module named
below, its ``add_arguments(parser)`` and its ``main(args)``.
"""

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from mmsmt import environment
from mmsmt.errors import UsageError, UserError
from mmsmt.version import __version__

COMMANDS = {
    'train': 'mmsmt.launch.training',
    'test': 'mmsmt.launch.testing',
    'predict': 'mmsmt.deploy.command',
    'report': 'mmsmt.report.command',
    'export': 'mmsmt.export.command',
    'figures': 'mmsmt.figures.command',
    'data': 'mmsmt.data.convert.command',
    'check': 'mmsmt.launch.checking',
    'rehearse': 'mmsmt.rehearsal.command',
    'doctor': 'mmsmt.doctor',
    'tables': 'mmsmt.analysis.command',
    'benchmark': 'mmsmt.benchmark.command',
    'soak': 'mmsmt.benchmark.soak',
    'demo': 'mmsmt.demo.command',
    'compare': 'mmsmt.compare.command',
    'digits': 'mmsmt.data.digits_command',
    'trees': 'mmsmt.compare.trees',
}
WITHOUT_TORCH = ('doctor', 'digits')
SUMMARIES = {
    'train': 'train a detector, segmenter or classifier from a config',
    'test': 'test a trained detector, segmenter or classifier',
    'predict': 'predict on images, videos or a camera',
    'report': 'write a page about a run, or several',
    'export': 'write a model as ONNX, OpenVINO or torch.export',
    'figures': "draw the paper's figures of a model and your images",
    'data': 'make a config from a folder of labelled images',
    'check': 'check the datasets of a config',
    'rehearse': 'dry-run a config end to end on a sample of its data',
    'doctor': 'diagnose the environment',
    'tables': "compare with the paper's tables",
    'benchmark': 'measure time and memory of backbones',
    'soak': 'record memory and open files of a long run',
    'demo': 'train Mask R-CNN with SMT-T on handwritten digits',
    'compare': 'train a model with several backbones, and compare',
    'digits': 'write digits in the layout of COCO, ADE20K or ImageNet',
    'trees': 'write photographs of trees from above, for comparisons',
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the ``mmsmt`` command.

    Args:
        argv (Sequence[str], optional): Subcommand and its arguments. Defaults
            to the command line.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    lines = (f'  {name:10s} {text}' for name, text in SUMMARIES.items())
    parser = argparse.ArgumentParser(
        prog='mmsmt',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='SMT, the Scale-Aware Modulation Transformer, for '
        'OpenMMLab.\n\ncommands:\n' + '\n'.join(lines),
        epilog='The options of a command: mmsmt COMMAND --help',
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('command', choices=COMMANDS, metavar='COMMAND')
    command = parser.parse_args(argv[:1]).command
    run_command(command, argv[1:], prog=f'mmsmt {command}')


def run_tool(command: str) -> None:
    """Run a subcommand with the arguments of a script in ``tools/``."""
    run_command(command, sys.argv[1:], prog=None)


def run_command(command: str, argv: Sequence[str], prog: str | None) -> None:
    """Run a subcommand; print a :class:`UserError` without a traceback.

    Args:
        command (str): One of :data:`COMMANDS`.
        argv (Sequence[str]): Its arguments.
        prog (str, optional): Its name in messages. Defaults to the script's.
    """
    try:
        module = _import_command(command)
        parser = argparse.ArgumentParser(
            prog=prog,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        args = parser.parse_args(argv)
        try:
            module.main(args)
        except UsageError as error:
            parser.error(str(error))
        _destroy_process_group()
    except UserError as error:
        sys.stdout.flush()
        sys.exit(f'\nError: {error}')
    except OSError as error:
        reason = _explain(error)
        if not reason:
            raise
        sys.stdout.flush()
        sys.exit(f'\nError: {reason}')


def _explain(error: OSError) -> str:
    """Say what an error of the system means, or nothing."""
    where = f"'{error.filename}'" if error.filename else 'A file'
    if isinstance(error, PermissionError) and error.filename:
        return (
            f'{where} may not be read or written: no permission. It may '
            'belong to another user, such as root in a container. Correct its '
            'owner, or give another folder.'
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return (
            f'{where} cannot be written: {error.strerror}. Make room, or give '
            'another folder; train --resume continues a run from its last '
            'whole checkpoint.'
        )
    return ''


def _import_command(command: str) -> ModuleType:
    """Import a subcommand's module, and register mmsmt with mmengine.

    Raises:
        EnvironmentProblem: The installed packages are incompatible.
        UserError: A package of an extra is missing.
    """
    try:
        if command not in WITHOUT_TORCH:
            from mmsmt.integration import extend_mmengine

            extend_mmengine()
        return importlib.import_module(COMMANDS[command])
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        # The latter are of libraries of torch that do not load.
        if getattr(error, 'name', None) in (
            'matplotlib',
            'PIL',
            'pycocotools',
            'sklearn',
        ):
            extra = command if command == 'figures' else 'demo'
            raise UserError(
                f"{error}. '{command}' needs it: pip install 'mmsmt[{extra}]'"
            ) from None
        if command not in WITHOUT_TORCH:
            environment.check(needs=())
        raise


def _destroy_process_group() -> None:
    torch = sys.modules.get('torch')
    if torch and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
