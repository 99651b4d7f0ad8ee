"""A preprocessor outside tfpt: pictures with their colours inverted."""

import dataclasses

from tfpt.preprocessors.image import Image


@dataclasses.dataclass(frozen=True)
class ToyNegative(Image):
    def host_pixels(self, image):
        pixels, frame = super().host_pixels(image)
        return 255 - pixels, frame
