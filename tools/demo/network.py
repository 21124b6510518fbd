"""The demo's network: a small MobileNetV2 (inverted residuals, depthwise separable, BatchNormalization, ReLU) for 32 x 32 RGB.

ReLU and not ReLU6, because a channel may be scaled through it (ReLU(c x) = c ReLU(x) for c > 0), which rescale_channels.py does.
"""

import torch
from torch import nn

# input channels, expanded channels, output channels, stride of the depthwise convolution
BLOCKS = [(16, 48, 24, 2), (24, 96, 24, 1), (24, 96, 40, 2), (40, 160, 40, 1), (40, 160, 64, 2), (64, 192, 64, 1)]
STEM, HEAD, CLASSES = 16, 128, 10


class ConvBn(nn.Sequential):
    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, relu=True):
        layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *([nn.ReLU()] if relu else []))


class Block(nn.Module):
    def __init__(self, inputs, hidden, outputs, stride):
        super().__init__()
        self.expand = ConvBn(inputs, hidden, 1)
        self.depthwise = ConvBn(hidden, hidden, 3, stride, groups=hidden)
        self.project = ConvBn(hidden, outputs, 1, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBn(3, STEM, 3)
        self.blocks = nn.ModuleList(Block(*block) for block in BLOCKS)
        self.head = ConvBn(BLOCKS[-1][2], HEAD, 1)
        self.classifier = nn.Linear(HEAD, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean(dim=(2, 3)))
