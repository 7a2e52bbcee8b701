"""Test a trained detector, segmenter or classifier."""

import argparse

from mmengine.evaluator import DumpResults

from mmsmt import launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    launch.add_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='save all predictions in a file'
    )
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='save pictures of predictions'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds to show each'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation'
    )
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end with .pkl')
    return args


def main() -> None:
    args = parse_args()
    cfg = launch.load_config(args)
    launch.prepare_testing(
        cfg,
        args.checkpoint,
        args.show,
        args.show_dir,
        args.wait_time,
        args.tta,
    )
    runner = launch.build_runner(cfg)
    if args.out:
        dump = DumpResults(args.out)
        if cfg.get('default_scope') == 'mmdet':
            from mmdet.evaluation import DumpDetResults

            dump = DumpDetResults(args.out)
        runner.test_evaluator.metrics.append(dump)
    runner.test()


if __name__ == '__main__':
    launch.run(main)
