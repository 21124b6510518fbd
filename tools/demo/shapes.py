"""The demo's pictures: one of ten shapes on a 32 x 32 canvas, with whatever makes them hard to tell apart.

A picture is drawn four times too large and scaled down, so edges are smooth. What varies: size, place, turn, slant, colours (foreground and
background may be close), stripes, gradients, a bar or blob that hides a part, small shapes that are none of the ten, blur and noise. At the end it
is reduced to 32 colours: this is how the repository holds it (about 800 bytes a picture), so networks are trained on that too.
"""

import numpy
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ["arrow", "circle", "crescent", "cross", "heart", "hexagon", "ring", "square", "star", "triangle"]
SIZE = 32
OVERSAMPLING = 4


def _regular(corners, phase=0.0):
    angles = phase + 2 * numpy.pi * numpy.arange(corners) / corners
    return numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)


def outline(name):
    """The outline as polygons in [-1, 1]^2: those of the list's first entry are filled, those of the second cut out."""
    if name == "arrow":
        return [[(-1, -0.28), (0.1, -0.28), (0.1, -0.75), (1, 0), (0.1, 0.75), (0.1, 0.28), (-1, 0.28)]], []
    if name == "circle":
        return [_regular(48)], []
    if name == "crescent":
        return [_regular(48)], [_regular(48) * 0.85 + (0.5, 0)]
    if name == "cross":
        a = 0.33
        return [[(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]], []
    if name == "heart":
        t = numpy.linspace(0, 2 * numpy.pi, 48, endpoint=False)
        x = 16 * numpy.sin(t) ** 3
        y = -(13 * numpy.cos(t) - 5 * numpy.cos(2 * t) - 2 * numpy.cos(3 * t) - numpy.cos(4 * t))
        return [numpy.stack([x, y], axis=1) / 16.5], []
    if name == "hexagon":
        return [_regular(6)], []
    if name == "ring":
        return [_regular(48)], [_regular(48) * 0.55]
    if name == "square":
        return [_regular(4, numpy.pi / 4) * 1.15], []
    if name == "star":
        points = _regular(10, -numpy.pi / 2)
        points[1::2] *= 0.45
        return [points * 1.1], []
    if name == "triangle":
        return [_regular(3, -numpy.pi / 2) * 1.1], []
    raise ValueError(name)


def _mask(rng, name, size, margin=1.0):
    """A random placement of the shape as a greyscale mask."""
    radius = rng.uniform(0.26, 0.46) * size
    turn = rng.uniform(0, 2 * numpy.pi) if rng.random() < 0.7 else rng.normal(0, 0.15)
    squeeze = rng.uniform(0.75, 1.0)
    slant = rng.normal(0, 0.12)
    centre = size / 2 + rng.uniform(-0.12, 0.12, 2) * size * margin
    matrix = numpy.array([[1, slant], [0, squeeze]])
    rotation = numpy.array([[numpy.cos(turn), -numpy.sin(turn)], [numpy.sin(turn), numpy.cos(turn)]])
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    filled, cut = outline(name)
    for polygons, value in ((filled, 255), (cut, 0)):
        for polygon in polygons:
            points = numpy.asarray(polygon) @ matrix.T @ rotation.T * radius + centre
            draw.polygon([tuple(p) for p in points], fill=value)
    return mask


def _texture(rng, colour, size):
    """An RGB plane: the colour, with a gradient and perhaps stripes."""
    plane = numpy.broadcast_to(colour.astype(numpy.float64), (size, size, 3)).copy()
    y, x = numpy.mgrid[0:size, 0:size] / size - 0.5
    angle = rng.uniform(0, 2 * numpy.pi)
    plane += (rng.uniform(0, 90) * (x * numpy.cos(angle) + y * numpy.sin(angle)))[..., None]
    if rng.random() < 0.4:
        angle = rng.uniform(0, numpy.pi)
        wave = numpy.sin(2 * numpy.pi * rng.uniform(2, 6) * (x * numpy.cos(angle) + y * numpy.sin(angle)) + rng.uniform(0, 6.28))
        plane += (rng.uniform(10, 35) * wave)[..., None] * rng.uniform(0.3, 1.0, 3)
    return plane


def draw(rng, label):
    """One picture of class `label`: uint8 [32, 32, 3]."""
    size = SIZE * OVERSAMPLING
    back = rng.uniform(20, 235, 3)
    # Close in colour, but not the same: at least 55 apart in at least one channel.
    while True:
        fore = rng.uniform(0, 255, 3) if rng.random() < 0.6 else back + rng.normal(0, 60, 3)
        if numpy.abs(fore - back).max() > 55:
            break
    picture = _texture(rng, back, size)
    # Small shapes that mean nothing.
    for _ in range(rng.integers(0, 4)):
        blob = Image.new("L", (size, size), 0)
        x, y = rng.uniform(0, size, 2)
        r = rng.uniform(0.03, 0.09) * size
        pen = ImageDraw.Draw(blob)
        if rng.random() < 0.5:
            pen.ellipse([x - r, y - r, x + r, y + r], fill=255)
        else:
            pen.line([x - 3 * r, y - r, x + 3 * r, y + 2 * r], fill=255, width=int(r))
        alpha = numpy.asarray(blob)[..., None] / 255.0
        picture = picture * (1 - alpha) + rng.uniform(0, 255, 3) * alpha
    alpha = numpy.asarray(_mask(rng, CLASSES[label], size))[..., None] / 255.0
    picture = picture * (1 - alpha) + _texture(rng, fore, size) * alpha
    # A bar that hides a part.
    if rng.random() < 0.45:
        bar = Image.new("L", (size, size), 0)
        pen = ImageDraw.Draw(bar)
        x0, y0, x1, y1 = rng.uniform(-0.1, 1.1, 4) * size
        pen.line([x0, y0, x1, y1], fill=255, width=int(rng.uniform(0.05, 0.16) * size))
        alpha = numpy.asarray(bar)[..., None] / 255.0
        picture = picture * (1 - alpha) + rng.uniform(0, 255, 3) * alpha
    image = Image.fromarray(numpy.clip(picture, 0, 255).astype(numpy.uint8))
    image = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    noisy = numpy.asarray(image).astype(numpy.float64) + rng.normal(0, rng.uniform(2, 22), (SIZE, SIZE, 3))
    return Image.fromarray(numpy.clip(noisy, 0, 255).astype(numpy.uint8)).quantize(32)


def make(count, seed):
    """`count` pictures, classes in turn: (list of palette images, uint8 labels). The same seed gives the same pictures."""
    rng = numpy.random.default_rng(seed)
    labels = numpy.arange(count) % len(CLASSES)
    return [draw(rng, int(label)) for label in labels], labels
