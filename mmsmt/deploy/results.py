"""Write predictions: COCO json, class maps, CSV, pictures and videos."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mmsmt.runs.files import write_text

from .prediction import BEST, Prediction
from .sources import SourceError, Video

WRITABLE = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class Results:
    """Files of predictions in a folder, written as they come.

    Args:
        folder (Path): The folder.
        task (str): Of the predictor.
        classes (Sequence[str]): Names of the classes.
        palette (np.ndarray): (C, 3) colours of the classes.
        pictures (bool): Draw pictures and videos.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        classes: Sequence[str],
        palette: np.ndarray,
        pictures: bool = True,
    ) -> None:
        self.folder, self.task, self.classes = folder, task, classes
        self.pictures = pictures
        self.counts: Counter = Counter()
        self.objects: Counter = Counter()
        self._rows: dict[int, list] = {}
        self._images: dict[int, dict] = {}
        self._notes: dict[int, list[dict]] = {}
        self._palette = palette
        self._videos: dict[str, Any] = {}

    def add(self, number: int, prediction: Prediction) -> None:
        """Add the prediction of a picture.

        Args:
            number (int): Number of the picture, for the order in files.
            prediction (Prediction): Its prediction.

        Raises:
            SourceError: OpenCV cannot write a video.
        """
        self.counts['frames' if prediction.video else 'images'] += 1
        if self.task == 'detection':
            self._add_objects(number, prediction)
        elif self.task == 'segmentation':
            self._write_class_map(prediction)
        else:
            best = zip(prediction.names, prediction.scores)
            cells = [x for name, p in best for x in (name, f'{p:.4f}')]
            self._rows[number] = [prediction.name, *cells, prediction.source]
            self.objects[prediction.names[0]] += 1
        if self.pictures:
            self._write_picture(prediction)

    def close(self) -> None:
        """Write what is collected."""
        for video in self._videos.values():
            video.release()
        if self.task == 'detection':
            self._write_json(self.folder / 'predictions.json')
        elif self.task == 'classification':
            self._write_table(self.folder / 'predictions.csv')

    @property
    def files(self) -> list[Path]:
        """The files and folders that were written."""
        names = ('predictions.json', 'predictions.csv', 'masks', 'pictures')
        return [p for p in map(self.folder.joinpath, names) if p.exists()]

    def _add_objects(self, number: int, prediction: Prediction) -> None:
        height, width = prediction.image.shape[:2]
        self._images[number] = dict(
            file_name=prediction.name,
            height=height,
            width=width,
            source=prediction.source,
        )
        self._notes[number] = list(_make_notes(prediction))
        self.objects.update(prediction.names)

    def _write_json(self, path: Path) -> None:
        images: list[dict] = []
        notes: list[dict] = []
        for key, number in enumerate(sorted(self._images), 1):
            images.append(dict(id=key, **self._images[number]))
            for note in self._notes[number]:
                notes.append(dict(id=len(notes) + 1, image_id=key, **note))
        names = enumerate(self.classes, 1)
        content = dict(
            images=images,
            annotations=notes,
            categories=[dict(id=i, name=name) for i, name in names],
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content))

    def _write_table(self, path: Path) -> None:
        count = min(BEST, len(self.classes))
        header = [
            f'{x}{i}' for i in range(1, count + 1) for x in ('class', 'score')
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(['file', *header, 'source'])
            writer.writerows(self._rows[key] for key in sorted(self._rows))

    def _write_class_map(self, prediction: Prediction) -> None:
        """Write class numbers as an indexed PNG in the classes' colours."""
        values = prediction.class_map
        present, counts = np.unique(values, return_counts=True)
        self.objects.update(
            {self.classes[i]: int(n) for i, n in zip(present, counts)}
        )
        path = (self.folder / 'masks' / prediction.name).with_suffix('.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(self.classes) > 256:
            Image.fromarray(values.astype(np.uint16)).save(path)
            return
        image = Image.fromarray(values.astype(np.uint8), mode='P')
        image.putpalette(self._palette.tobytes())
        image.save(path)

    def _write_picture(self, prediction: Prediction) -> None:
        pixels = prediction.predictor.draw(prediction)[..., ::-1]
        if prediction.video:
            self._write_frame(prediction.video, pixels)
            return
        path = self.folder / 'pictures' / prediction.name
        if path.suffix.lower() not in WRITABLE:
            path = path.with_suffix('.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels))
        try:
            path.write_bytes(data.tobytes())  # imwrite fails in silence
        except OSError:
            path.unlink(missing_ok=True)  # room for the other files
            raise

    def _write_frame(self, video: Video, pixels: np.ndarray) -> None:
        """Append a frame; they come in order, as all have one size."""
        if video.name not in self._videos:
            path = (self.folder / 'pictures' / video.name).with_suffix('.mp4')
            path.parent.mkdir(parents=True, exist_ok=True)
            size = pixels.shape[1], pixels.shape[0]
            code = cv2.VideoWriter.fourcc(*'mp4v')
            writer = cv2.VideoWriter(str(path), code, video.rate, size)
            if not writer.isOpened():
                raise SourceError(
                    f"The video '{path}' cannot be written: OpenCV "
                    f'{cv2.__version__} has no encoder for mp4v. '
                    '--no-pictures predicts without it.'
                )
            self._videos[video.name] = writer
        self._videos[video.name].write(np.ascontiguousarray(pixels))


def _make_notes(prediction: Prediction) -> list[dict]:
    """Return COCO annotations: boxes, scores, and masks in RLE."""
    from pycocotools.mask import encode

    boxes, masks = prediction.boxes, prediction.masks
    notes = []
    for i, (label, score) in enumerate(
        zip(prediction.labels, prediction.scores)
    ):
        x1, y1, x2, y2 = (round(float(value), 2) for value in boxes[i])
        note: dict = dict(
            category_id=int(label) + 1,
            bbox=[x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            score=round(float(score), 4),
            iscrowd=0,
        )
        note['area'] = round(note['bbox'][2] * note['bbox'][3], 2)
        if masks is not None:
            code = encode(np.asfortranarray(masks[i], np.uint8))
            code['counts'] = code['counts'].decode()
            note.update(segmentation=code, area=int(masks[i].sum()))
        notes.append(note)
    return notes
