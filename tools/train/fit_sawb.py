#!/usr/bin/env python3
"""Fits the coefficients of SAWB (Choi et al. 2019, section 4): clip = c1 sqrt(E w^2) - c2 E|w| for odd grids of 2^bits values.

For each of six densities of mean 0 the clip of least mean squared error is searched; c1 and c2 are the least squares fit of
clip / E|w| = c1 sqrt(E w^2) / E|w| - c2 over the six. Prints the table of src/train/quantizers/sawb.cc and, for each bit width, how far the
fitted clips' errors lie above the least ones: as they are, and kept between 2 E|w| (what a uniform density needs; from 5 bits on) and max |w|.

usage: tools/train/fit_sawb.py
"""

import numpy as np

POINTS = 200_001


def densities():
    """name -> (points, probabilities), symmetric around 0."""
    wide = np.linspace(-14, 14, POINTS)
    unit = np.linspace(-1, 1, POINTS)
    circle = np.linspace(-np.pi, np.pi, POINTS)
    table = {
        "gauss": (wide, np.exp(-(wide**2) / 2)),
        "uniform": (unit, np.ones(POINTS)),
        "laplace": (wide, np.exp(-np.abs(wide))),
        "logistic": (wide, 1 / np.cosh(wide / 2) ** 2),
        "triangle": (unit, 1 - np.abs(unit)),
        "von mises": (circle, np.exp(np.cos(circle))),
    }
    return {name: (x, p / p.sum()) for name, (x, p) in table.items()}


def error(x, p, clip, bits):
    """E (x - Q(x))^2 of the 2^bits values from -clip to clip."""
    steps = 2**bits - 1
    index = np.clip(np.rint((x / clip + 1) * steps / 2), 0, steps)
    return float(np.sum(p * (x - clip * (2 * index / steps - 1)) ** 2))


def best_clip(x, p, bits):
    """Coarse to fine: the error of a clip has one valley, roughened by the grid of points."""
    low, high = 0.0, x[-1]
    for _ in range(5):
        clips = np.linspace(low, high, 42)[1:]
        width = clips[1] - clips[0]
        best = clips[int(np.argmin([error(x, p, clip, bits) for clip in clips]))]
        low, high = max(0.0, best - 2 * width), best + 2 * width
    return best


def main():
    for bits in range(1, 9):
        ratios, clips, least, moments = [], [], [], []
        for x, p in densities().values():
            mean, root = float(np.sum(p * np.abs(x))), float(np.sqrt(np.sum(p * x * x)))
            clip = best_clip(x, p, bits)
            ratios.append(root / mean)
            clips.append(clip / mean)
            least.append(error(x, p, clip, bits))
            moments.append((mean, root))
        design = np.stack([ratios, -np.ones(len(ratios))], axis=1)
        (c1, c2), *_ = np.linalg.lstsq(design, np.array(clips), rcond=None)
        plain, bounded = [], []
        for (x, p), (mean, root), e in zip(densities().values(), moments, least):
            clip = c1 * root - c2 * mean
            plain.append(error(x, p, clip, bits) / e)
            bounded.append(error(x, p, min(max(clip, 2 * mean if bits >= 5 else 0), x[-1]), bits) / e)
        print(f"    {{{c1:.4f}, {c2:.4f}}},  // {bits}: errors at most {max(plain):.3g} times the least; bounded: {max(bounded):.3g}")


if __name__ == "__main__":
    main()
