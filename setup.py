"""Build of mmsmt. The wheel carries configs and tools under mmsmt/.mim."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# As in the hosts' wheels; their configs are in a folder per method.
# Tools that need the rest of the checkout.
CHECKOUT = ('setup_env.py', 'benchmark.py')
CARRIED = {'configs': Path('configs', 'smt'), 'tools': Path('tools')}


class BuildWithConfigs(build_py):
    """Add configs and tools where mmengine looks for them."""

    def run(self) -> None:
        """Build, then copy or link configs and tools."""
        editable = getattr(self, 'editable_mode', False)
        if not editable:  # modules of an earlier build
            shutil.rmtree(Path(self.build_lib, 'mmsmt'), ignore_errors=True)
        super().run()
        home = Path(ROOT if editable else self.build_lib, 'mmsmt', '.mim')
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        metafiles = sorted((ROOT / 'configs/metafiles').glob('*.yml'))
        names = [f'- configs/smt/metafiles/{x.name}\n' for x in metafiles]
        index = 'Import:\n' + ''.join(names)
        (home / 'model-index.yml').write_text(index)
        if editable:  # mim of onedl looks here
            (ROOT / '.mim').unlink(missing_ok=True)
            (ROOT / '.mim').symlink_to(home)
        for source, target in CARRIED.items():
            (home / target).parent.mkdir(exist_ok=True)
            if editable:
                (home / target).symlink_to(ROOT / source)
            else:
                shutil.copytree(
                    ROOT / source,
                    home / target,
                    ignore=shutil.ignore_patterns('__pycache__', *CHECKOUT),
                )


# No hard requirement: both stacks claim the same import names, so requiring
# either would break the other. The tests run on the pins in requirements/.
# mmcv comes without compiled operators in both; see mmsmt/ops.
EXTRAS = {
    'onedl': [
        'torch>=2.6,<2.15',
        'torchvision>=0.21,<0.30',
        'onedl-mmengine==0.10.12',
        'onedl-mmcv==2.3.6',
        'onedl-mmdetection==3.5.1',
        'onedl-mmsegmentation==1.4.2',
        'onedl-mmpretrain==1.3.6',
        'setuptools<82',
    ],
    'openmmlab': [
        'torch>=2.1,<2.2',
        'torchvision>=0.16,<0.17',
        'mmengine==0.10.7',
        'mmcv-lite==2.1.0',
        'mmdet==3.3.0',
        'mmsegmentation==1.2.2',
        'mmpretrain==1.2.0',
        'numpy<2',
        'opencv-python<4.12',
        'ftfy',
        'regex',
        'setuptools<70',
    ],
    'report': ['plotly', 'jinja2', 'pycocotools'],
    'demo': ['scikit-learn', 'matplotlib', 'pycocotools', 'tqdm', 'Pillow'],
    'export': ['onnx', 'onnxruntime', 'ml_dtypes'],
    'figures': ['captum', 'matplotlib'],
    'openvino': ['onnx', 'onnxruntime', 'ml_dtypes', 'openvino'],
    'export-dynamo': [
        'onnx',
        'onnxruntime',
        'ml_dtypes',
        'onnxscript',
    ],  # torch >= 2.6
    'dev': [
        'pytest',
        'pytest-xdist',
        'ruff',
        'mypy',
        'codespell',
        'pre-commit',
        'pip',
        'wheel',
        'ninja',
        'psutil',
    ],
}

version = re.search(
    r"__version__ = '(.+)'", (ROOT / 'mmsmt' / 'version.py').read_text()
)[1]

setup(
    name='mmsmt',
    version=version,
    description='SMT, the Scale-Aware Modulation Transformer, for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=['mmsmt', 'mmsmt.*']),
    package_data={
        'mmsmt': ['py.typed'],
        'mmsmt.weights': ['*.json', '*.txt'],
        'mmsmt.report': ['*.html'],
    },
    extras_require=EXTRAS,
    entry_points={'console_scripts': ['mmsmt = mmsmt.cli:main']},
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
