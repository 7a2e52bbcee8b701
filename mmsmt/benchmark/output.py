"""Format and plot benchmark results."""

from pathlib import Path

from .machine import MIB


def describe_machine(machine: dict) -> str:
    """Describe the machine in three lines."""
    rates = ', '.join(
        f'{name} {rate / 1e9:.0f} (by {way})'
        for name, found in machine['rates'].items()
        for way, rate in found.items()
    )
    versions = ', '.join(f'{k} {v}' for k, v in machine['versions'].items())
    return (
        f'{machine["name"]}, {machine["date"]}\n{versions}\n'
        f'Limits: products {rates} GFLOP/s; '
        f'memory {machine["bandwidth"] / 1e9:.1f} GB/s'
    )


def format_table(results: list[dict]) -> str:
    """Format the rows of one case."""
    case = results[0]
    height, width = case['size']
    done = {r['row']: r for r in results if 'seconds' in r}
    plain, other = done.get('plain'), done.get('onnxruntime')
    lines = [
        f'\n{case["task"]}, {case["dtype"]}, {case["batch"]} x 3 x {height} x '
        f'{width}',
        f'{"":15s} {"time, ms":>25s} {"images/s":>9s} {"peak, MiB":>21s} '
        f'{"time/plain":>10s} {"peak/plain":>10s} {"x floor":>8s}'
        + (f' {"time/onnxruntime":>16s}' if other else ''),
    ]
    for r in results:
        if 'failed' in r:
            lines.append(f'{r["row"]:15s} {r["failed"]}')
            continue
        low, high = (1e3 * v for v in r['seconds_range'])
        least, most = (v / MIB for v in r['memory_range'])
        time_ = f'{1e3 * r["seconds"]:.1f} ({low:.1f} - {high:.1f})'
        memory = f'{r["memory"] / MIB:.0f} ({least:.0f} - {most:.0f})'
        ratios = [
            f'{r[key] / plain[key]:.2f}' if plain else ''
            for key in ('seconds', 'memory')
        ]
        floor = f'{r["seconds"] / r["floor"]:.1f}' if 'floor' in r else ''
        last = f' {r["seconds"] / other["seconds"]:16.2f}' if other else ''
        lines.append(
            f'{r["row"]:15s} {time_:>25s} {r["images_per_second"]:9.2f} '
            f'{memory:>21s} {ratios[0]:>10s} {ratios[1]:>10s} {floor:>8s}'
            f'{last}'
        )
    return '\n'.join(lines)


def draw_plot(results: list[dict], machine: dict, path: Path) -> None:
    """Draw time and memory over image size, a row of axes per task."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    groups: dict[tuple, dict[str, list[dict]]] = {}
    for r in results:
        case = r['task'], r['dtype'], r['batch']
        groups.setdefault(case, {}).setdefault(r['row'], []).append(r)
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(11, 4.2 * len(groups)), squeeze=False
    )
    for row_axes, ((task, dtype, batch), rows) in zip(axes, groups.items()):
        sizes: dict[float, tuple[int, int]] = {}
        for ax, key, scale, label in (
            (row_axes[0], 'seconds', 1, 'seconds'),
            (row_axes[1], 'memory', 2**30, 'peak above the model, GiB'),
        ):
            for name, points in rows.items():
                for p in points:
                    sizes[p['size'][0] * p['size'][1] / 1e6] = p['size']
                done = [p for p in points if key in p]
                ax.plot(
                    [p['size'][0] * p['size'][1] / 1e6 for p in done],
                    [p[key] / scale for p in done],
                    marker='o',
                    markersize=4,
                    linewidth=2.2 if name.startswith('mmsmt') else 1.2,
                    linestyle='--' if name in ('plain', 'release') else '-',
                    label=name,
                )
            ax.set(xscale='log', yscale='log', ylabel=label)
            ax.set_title(f'{task}, {dtype}, batch {batch}')
            ax.set_xticks(list(sizes), [f'{h}x{w}' for h, w in sizes.values()])
            ax.set_xticks([], minor=True)
            ax.grid(alpha=0.3)
        row_axes[1].legend(fontsize=8, loc='upper left')
    versions = machine['versions']
    figure.suptitle(
        f'{machine["name"]}, torch {versions["torch"]}, {machine["date"]}',
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f'\nDrawn: {path}')
