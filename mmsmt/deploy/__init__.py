"""After training: predict on images and videos."""

from .predictor import Prediction, Predictor

__all__ = ['Prediction', 'Predictor']
